package hook

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/alecthomas/kong"
)

// version is set by the linker.
var version = "unreleased"

// Common holds the flags that every command has. A command's flags embed it.
type Common struct {
	Config  configFile  `help:"Read the settings from FILE instead of ${config}." placeholder:"FILE" default:"${config}"`
	Version versionFlag `help:"Print the version and exit."`
	Metrics string      `help:"Write numbers for Prometheus into this directory of node_exporter's textfile collector." placeholder:"DIR"`
}

// Parse reads the flags of env.Args and, for those not given, the settings of
// the configuration file into cli, a pointer to a struct with kong's tags that
// embeds Common. It returns the name of the command that was asked for.
//
// The flags on cli itself are the settings: each may stand under its own name in
// the file. So may a table, which has no flag: a field that implements Table and
// has the tags `kong:"-"` and `toml:"NAME"`. A key that is no setting is an error, and so is a missing file that
// --config names. Errors are Usagef's. From here on SIGTERM and SIGINT cancel the
// context that Main gave.
func Parse(env Env, cli any, description string) (command string, err error) {
	return ParseSection(env, cli, description, nil)
}

// section holds settings of one part of the configuration file.
type section map[string]any

// ParseSection is Parse with settings, by name, that stand in for the file's: those of
// one of several tables for which a program does its work. A flag wins over them too.
func ParseSection(env Env, cli any, description string, values map[string]any) (command string, err error) {
	// kong ends the program inside the parser for --help and --version; here
	// the exit belongs to main alone.
	defer func() {
		switch r := recover(); r {
		case nil:
		case errDone:
			err = errDone
		default:
			panic(r)
		}
	}()
	name := "tunnelcast-" + env.Name
	parser, err := kong.New(cli,
		kong.Name(name),
		kong.Description(description+"\n\n"+statuses),
		// kong interpolates each variable anew for every flag, so this is the only one.
		kong.Vars{"config": "/etc/tunnelcast/" + env.Name + ".toml"},
		kong.Bind(section(values), versionLine(name+" "+version)),
		kong.Writers(env.Stdout, env.Stderr),
		kong.Exit(func(int) { panic(errDone) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ValueFormatter(withDefault),
	)
	if err != nil {
		return "", err
	}
	parsed, err := parser.Parse(env.Args)
	if err != nil {
		return "", Usagef("%w (try %s --help)", err, name)
	}
	command, _, _ = strings.Cut(parsed.Command(), " ")
	if env.catchSignals != nil {
		env.catchSignals()
	}
	return command, nil
}

const statuses = "Exit status: 0 done or nothing to do, 1 failed, 3 some items failed, 80 wrong flags or configuration."

// withDefault adds to a flag's help the default that its placeholder hides.
func withDefault(v *kong.Value) string {
	if v.Default == "" || v.Flag == nil || v.Flag.PlaceHolder == "" || v.Name == "config" {
		return v.Help
	}
	return fmt.Sprintf("%s (default: %s)", v.Help, v.Default)
}

type (
	versionFlag bool
	versionLine string
)

// BeforeReset answers before anything else is looked at, so that --version
// works beside a broken configuration file. The name is kong's.
func (versionFlag) BeforeReset(app *kong.Kong, line versionLine) error {
	fmt.Fprintln(app.Stdout, line)
	app.Exit(0)
	return nil
}

type configFile string

// BeforeResolve adds the file's settings below the flags. The name is kong's.
func (configFile) BeforeResolve(app *kong.Kong, ctx *kong.Context, trace *kong.Path, part section) error {
	file := string(ctx.FlagValue(trace.Flag).(configFile))
	settings, err := readSettings(file, app.Model, part)
	named := slices.ContainsFunc(ctx.Path, func(p *kong.Path) bool { return p.Flag == trace.Flag })
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return err
	}
	ctx.AddResolver(settings)
	return nil
}

// settings are the keys of one configuration file.
type settings struct {
	file   string
	text   string
	values map[string]any
}

func readSettings(file string, app *kong.Application, part section) (settings, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return settings{}, fmt.Errorf("read configuration: %w", err)
	}
	s := settings{file: file, text: string(text)}
	if !setsAny(text) {
		// parsing the comments would take a fifth of the time of Parse
	} else if err := toml.Unmarshal(text, &s.values); err != nil {
		var syntax toml.ParseError
		if errors.As(err, &syntax) {
			return s, fmt.Errorf("%s:%d: %s", file, syntax.Position.Line, oneLine(syntax.Message))
		}
		return s, fmt.Errorf("%s: %w", file, err)
	}
	tables := tables(app.Target)
	known := settingNames(app)
	for name, table := range tables {
		value, ok := s.values[name]
		if slices.Contains(known, name) {
			// Of a name that is a flag too, several tables are the table's, and all else the flag's.
			switch value.(type) {
			case []map[string]any:
			case []any, map[string]any:
				return s, fmt.Errorf("%s: %s is one value, or several tables that begin with [[%[2]s]]", s.place(name), name)
			default:
				continue
			}
			delete(s.values, name)
		} else {
			known = append(known, name)
		}
		if ok {
			if err := readTable(app.Target, name, table, value); err != nil {
				return s, fmt.Errorf("%s: %w", s.place(name), err)
			}
		}
	}
	slices.Sort(known)
	for key, value := range part {
		if s.values == nil {
			s.values = map[string]any{}
		}
		s.values[key] = value
	}
	for key := range s.values {
		if !slices.Contains(known, key) {
			return s, fmt.Errorf("%s: unknown key %q: the keys are %s", s.place(key), key, strings.Join(known, ", "))
		}
	}
	return s, nil
}

// setsAny is false of a file as the package has it: all comments.
func setsAny(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return true
		}
	}
	return false
}

// tables returns the tables of a struct of flags, by name.
func tables(flags reflect.Value) map[string]Table {
	all := map[string]Table{}
	for i := range flags.NumField() {
		if flags.Type().Field(i).Anonymous {
			maps.Copy(all, tables(flags.Field(i)))
			continue
		}
		if name, ok := flags.Type().Field(i).Tag.Lookup("toml"); ok {
			all[name] = flags.Field(i).Addr().Interface().(Table)
		}
	}
	return all
}

// settingNames returns the flags that are settings: those of the program, not
// of one of its commands.
func settingNames(app *kong.Application) []string {
	var names []string
	for _, flag := range app.Flags {
		if flag.Name != "help" && flag.Name != "config" && flag.Name != "version" {
			names = append(names, flag.Name)
		}
	}
	return names
}

// place names the file and the line that sets key or opens its table. The TOML
// library knows the place of a syntax error, not of a key.
func (s settings) place(key string) string {
	n := 0
	for line := range strings.Lines(s.text) {
		n++
		rest, ok := strings.CutPrefix(strings.TrimLeft(line, " \t[\"'"), key)
		if ok && strings.IndexAny(rest, " \t=].\"'") == 0 {
			return fmt.Sprintf("%s:%d", s.file, n)
		}
	}
	return s.file
}

// Validate implements kong.Resolver; readSettings has looked at the keys.
func (settings) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver. A scalar goes through the flag's own parser
// as text, so that a key takes what its flag takes: kong would read the number
// in "timeout = 1" as one nanosecond. The value is tried here first, because
// only here the error can name the file.
func (s settings) Resolve(_ *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	value, ok := s.values[flag.Name]
	if !ok || parent.App == nil {
		return nil, nil
	}
	switch scalar := value.(type) {
	case []any:
		if !flag.IsSlice() {
			return nil, fmt.Errorf("%s: takes one value, not a list", s.place(flag.Name))
		}
	case string:
	case int64, float64, bool:
		value = fmt.Sprint(scalar)
	default:
		return nil, fmt.Errorf("%s: a value of this kind is not expected here", s.place(flag.Name))
	}
	scan := kong.Scan().PushTyped(value, kong.FlagValueToken)
	if err := flag.Parse(scan, reflect.New(flag.Target.Type()).Elem()); err != nil {
		return nil, fmt.Errorf("%s: %w", s.place(flag.Name), err)
	}
	return value, nil
}
