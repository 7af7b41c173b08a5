package hook

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/BurntSushi/toml"
)

// Settings is Parse for the call of a host that holds others up meanwhile. It
// knows arguments without flags, --config FILE before them excepted, and gives
// cli the defaults and what the configuration file has. kong takes three times as
// long as all else that such a call does: it makes its model of every command
// and flag, help texts included, before it looks at the first argument.
//
// Whatever is not plain makes it return false with cli as it was; Parse is to be
// asked then, which knows better or says what is wrong. Where it returns true,
// Parse would have set the same. SIGTERM and SIGINT are as they were, too.
func Settings(env Env, cli any) bool {
	args, file, named := env.Args, defaultConfig(env.Name), false
	if len(args) >= 2 && args[0] == "--config" {
		args, file, named = args[2:], args[1], true
	}
	isFlag := func(s string) bool { return strings.HasPrefix(s, "-") }
	if slices.ContainsFunc(args, isFlag) || isFlag(file) {
		return false
	}
	values := map[string]any{}
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
	case err != nil, setsAny(text) && toml.Unmarshal(text, &values) != nil:
		return false
	}
	target := reflect.ValueOf(cli).Elem()
	filled := reflect.New(target.Type()).Elem()
	if !fill(filled, values) || len(values) > 0 { // a key is left that is no setting
		return false
	}
	target.Set(filled)
	return true
}

func defaultConfig(name string) string { return "/etc/tunnelcast/" + name + ".toml" }

// setsAny is false of a file as the package has it: all comments.
func setsAny(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return true
		}
	}
	return false
}

// fill sets the fields of a struct with kong's tags and takes their values out of
// the map.
func fill(target reflect.Value, values map[string]any) bool {
	for i := range target.NumField() {
		field := target.Type().Field(i)
		if field.Anonymous {
			if !fill(target.Field(i), values) {
				return false
			}
			continue
		}
		if _, command := field.Tag.Lookup("cmd"); command || field.Name == "Config" || field.Name == "Version" {
			continue
		}
		if name, ok := field.Tag.Lookup("toml"); ok {
			if value, ok := values[name]; ok && readTable(target, name, target.Field(i).Addr().Interface().(Table), value) != nil {
				return false
			}
			delete(values, name)
			continue
		}
		name, ok := field.Tag.Lookup("name")
		if !ok {
			name = dashed(field.Name)
		}
		value, ok := values[name]
		if !ok {
			if value, ok = field.Tag.Lookup("default"); !ok {
				continue
			}
		}
		delete(values, name)
		if !set(target.Field(i).Addr().Interface(), value) {
			return false
		}
	}
	return true
}

// Table is a setting that is a table of the configuration file.
type Table interface {
	// UnmarshalTOML stores the value that the file has under the table's name.
	UnmarshalTOML(value any) error
}

// readTable stores the file's value in a table. Every key after a table's header
// belongs to the table, so a setting of the program there is an error.
func readTable(flags reflect.Value, name string, table Table, value any) error {
	if keys, ok := value.(map[string]any); ok {
		for key := range keys {
			if isSetting(flags.Type(), key) {
				return fmt.Errorf("the setting %s is below [%s]: it must be above the line [%[2]s]", key, name)
			}
		}
	}
	return table.UnmarshalTOML(value)
}

// isSetting tells whether a struct of flags has one for a key.
func isSetting(flags reflect.Type, key string) bool {
	for i := range flags.NumField() {
		field := flags.Field(i)
		if field.Anonymous && isSetting(field.Type, key) || dashed(field.Name) == key || field.Tag.Get("name") == key {
			return true
		}
	}
	return false
}

// set stores a default or a value of the file if it is of the ordinary kind.
func set(target, value any) bool {
	text, isText := value.(string)
	switch target := target.(type) {
	case encoding.TextUnmarshaler:
		if number, ok := value.(int64); ok {
			text, isText = fmt.Sprint(number), true
		}
		return isText && target.UnmarshalText([]byte(text)) == nil
	case *string:
		*target = text
		return isText
	case *time.Duration:
		d, err := time.ParseDuration(text)
		*target = d
		return isText && err == nil
	case *bool:
		is, ok := value.(bool)
		*target = is
		return ok
	case *[]string:
		list, ok := value.([]any)
		*target = make([]string, len(list))
		for i := range list {
			var isText bool
			(*target)[i], isText = list[i].(string)
			ok = ok && isText
		}
		return ok
	}
	return false
}

// dashed is the flag of a field, RunDir: run-dir.
func dashed(field string) string {
	var b strings.Builder
	for i, r := range field {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
