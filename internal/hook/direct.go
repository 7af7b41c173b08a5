package hook

import (
	"bytes"
	"encoding"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/alecthomas/kong"
)

// ParseCall is Parse for a call that another program waits for. cli has no commands,
// and its arguments have no meaning. Without a flag among env.Args, except --config FILE
// in front, ParseCall sets the fields of cli itself: kong takes longer to make its model
// of forty flags than the rest of the call takes. kong's own mappers read the values, so
// they are the same. If there is another flag or a mistake, kong reads everything, and
// reports it.
//
// SIGTERM and SIGINT end such a call at once: to catch them takes a thread.
func ParseCall(env Env, cli any, description string) error {
	if readDirectly(env, cli) {
		return nil
	}
	_, err := Parse(env, cli, description)
	return err
}

// readDirectly sets each field of cli to its value in the configuration file, otherwise
// to its default, and reports whether that was possible.
func readDirectly(env Env, cli any) bool {
	file, args := settingsFile(env.Name), env.Args
	named := len(args) > 1 && args[0] == "--config"
	if named {
		file, args = args[1], args[2:]
	}
	if slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "-") }) {
		return false
	}
	text, err := os.ReadFile(file)
	if err != nil && (named || !errors.Is(err, fs.ErrNotExist)) {
		return false
	}
	d := direct{file: file, values: map[string]any{}, mappers: kong.NewRegistry().RegisterDefaults()}
	// TOML's parser takes longer for the comments of the file in the package than for
	// the settings in it.
	if lines := settingLines(text); len(lines) > 0 && toml.Unmarshal(lines, &d.values) != nil {
		return false
	}
	d.flags = reflect.ValueOf(cli).Elem()
	return d.read(d.flags) && len(d.values) == 0
}

type direct struct {
	file    string
	values  map[string]any // what the file sets and no field has been set to yet
	flags   reflect.Value  // the whole struct
	mappers *kong.Registry
}

func (d direct) read(flags reflect.Value) bool {
	for i := range flags.NumField() {
		field, target := flags.Type().Field(i), flags.Field(i)
		if !d.field(field, target) {
			return false
		}
	}
	return true
}

func (d direct) field(field reflect.StructField, target reflect.Value) bool {
	switch {
	case field.Anonymous:
		return d.read(target)
	case field.Name == "Config":
		target.SetString(d.file)
		return true
	case len(d.values) > 0:
		if done, ok := d.fromFile(field, target); done {
			return ok
		}
	}
	value, ok := field.Tag.Lookup("default")
	return !ok || d.set(target, value)
}

// fromFile reports whether the file sets the field, and whether it could be set to that
// value.
func (d direct) fromFile(field reflect.StructField, target reflect.Value) (done, ok bool) {
	if name, isTable := field.Tag.Lookup("toml"); isTable {
		value, done := d.values[name]
		delete(d.values, name)
		return done, done && readTable(d.flags, name, target.Addr().Interface().(Table), value) == nil
	}
	if _, isArgument := field.Tag.Lookup("arg"); isArgument {
		return false, false
	}
	name := field.Tag.Get("name")
	if name == "" {
		name = dashed(field.Name)
	}
	value, done := d.values[name]
	if !done || !isSettingName(name) {
		return false, false
	}
	delete(d.values, name)
	token, ok := flagValue(value, target.Kind() == reflect.Slice)
	return true, ok && d.set(target, token)
}

// set parses a value as kong does for a flag, but texts without kong, which would make
// JSON of each and read that.
func (d direct) set(target reflect.Value, value any) bool {
	if text, ok := value.(string); ok {
		switch to := target.Addr().Interface().(type) {
		case *string:
			*to = text
			return true
		case encoding.TextUnmarshaler:
			return to.UnmarshalText([]byte(text)) == nil
		}
	}
	flag := &kong.Value{Tag: &kong.Tag{Sep: ','}, Flag: new(kong.Flag), Target: target}
	context := &kong.DecodeContext{Value: flag, Scan: kong.Scan().PushTyped(value, kong.FlagValueToken)}
	return d.mappers.ForValue(target).Decode(context, target) == nil
}

// settingLines returns the lines of a file without comments and empty ones: of the file
// in the package, which explains all settings, nothing is left. A text in three quotes
// may have such lines, so a file with one is returned as it is.
func settingLines(text []byte) []byte {
	if bytes.Contains(text, []byte(`"""`)) || bytes.Contains(text, []byte("'''")) {
		return text
	}
	var left []byte
	for line := range bytes.Lines(text) {
		if start := bytes.TrimSpace(line); len(start) > 0 && start[0] != '#' {
			left = append(left, line...)
		}
	}
	return left
}
