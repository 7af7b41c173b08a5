package hook

import (
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
	Config  configFile  `help:"Read settings from FILE, not ${config}." placeholder:"FILE" default:"${config}"`
	Version versionFlag `help:"Print the version and exit."`
	Metrics string      `help:"Write metrics for node_exporter's textfile collector to DIR." placeholder:"DIR"`
}

// Parse reads the flags in env.Args and, for those not given, the settings in the
// configuration file into cli, a pointer to a struct with kong's tags that embeds
// Common. It returns the name of the command. Only it and ParseCall read settings.
//
// Each flag of cli itself is a setting, with the same name in the file; flags of a
// command are not. A table is a setting without a flag: a field that implements Table
// and has the tags `kong:"-"` and `toml:"NAME"`. An unknown key is an error, and so is
// a missing file that --config names. Errors are those of Usagef. From here on SIGTERM
// and SIGINT cancel the context of Main.
func Parse(env Env, cli any, description string) (command string, err error) {
	return ParseSection(env, cli, description, nil)
}

// section holds the settings of one table of the configuration file.
type section map[string]any

// ParseSection is Parse with settings, by name, that replace those of the file: the
// settings of one of several tables, for each of which a program does its work. A flag
// overrides them, too.
func ParseSection(env Env, cli any, description string, values map[string]any) (command string, err error) {
	// For --help and --version kong exits inside the parser. Only main exits here, so
	// Exit panics, and the panic ends here.
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
		// kong interpolates all variables again for each flag, so this is the only one.
		kong.Vars{"config": settingsFile(env.Name)},
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
		return "", Usagef("%w (try `%s --help`)", err, name)
	}
	command, _, _ = strings.Cut(parsed.Command(), " ")
	if env.catchSignals != nil {
		env.catchSignals()
	}
	return command, nil
}

// settingsFile returns the configuration file that is read without --config.
func settingsFile(program string) string { return "/etc/tunnelcast/" + program + ".toml" }

const statuses = "Exit status: 0 done or nothing to do, 1 failed, 3 some items failed, 80 wrong flags or configuration."

// withDefault adds the default to a flag's help if a placeholder hides it.
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

// BeforeReset prints the version before kong reads anything else, so that --version
// works with an invalid configuration file, too. kong calls it by this name.
func (versionFlag) BeforeReset(app *kong.Kong, line versionLine) error {
	fmt.Fprintln(app.Stdout, line)
	app.Exit(0)
	return nil
}

type configFile string

// BeforeResolve makes the settings in the file the values of flags that are not given.
// kong calls it by this name.
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
	if len(settingLines(text)) == 0 {
		// toml.Unmarshal takes long for the comments
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
			// If a flag has the same name, a list of tables is for the table and any other
			// value for the flag.
			switch value.(type) {
			case []map[string]any:
			case []any, map[string]any:
				return s, fmt.Errorf("%s: %s is one value, or several tables that begin with [[%[2]s]]",
					s.place(name), name)
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

// isSettingName reports whether a flag with this name is a key of the file.
func isSettingName(flag string) bool { return flag != "help" && flag != "config" && flag != "version" }

// settingNames returns the names of the flags that are settings: flags of the program,
// not of one of its commands.
func settingNames(app *kong.Application) []string {
	var names []string
	for _, flag := range app.Flags {
		if isSettingName(flag.Name) {
			names = append(names, flag.Name)
		}
	}
	return names
}

// place returns the file and the line that sets a key or opens its table. The TOML
// library returns the line of a syntax error only.
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

// Validate implements kong.Resolver. readSettings has checked the keys.
func (settings) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver. It passes a scalar to the flag's own parser as
// text, so that a key accepts the same values as its flag: kong would read the number
// in "timeout = 1" as one nanosecond. It parses the value once itself, because kong's
// error would not name the file.
func (s settings) Resolve(_ *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	value, ok := s.values[flag.Name]
	if !ok || parent.App == nil {
		return nil, nil
	}
	if value, ok = flagValue(value, flag.IsSlice()); !ok {
		if _, list := s.values[flag.Name].([]any); list {
			return nil, fmt.Errorf("%s: takes one value, not a list", s.place(flag.Name))
		}
		return nil, fmt.Errorf("%s: a value of this kind is not expected here", s.place(flag.Name))
	}
	scan := kong.Scan().PushTyped(value, kong.FlagValueToken)
	if err := flag.Parse(scan, reflect.New(flag.Target.Type()).Elem()); err != nil {
		return nil, fmt.Errorf("%s: %w", s.place(flag.Name), err)
	}
	return value, nil
}

// flagValue returns a value of the file as the token that the parser of its flag takes.
// ok is false if a flag has no values of this kind.
func flagValue(value any, isList bool) (token any, ok bool) {
	switch value.(type) {
	case []any:
		return value, isList
	case string:
		return value, true
	case int64, float64, bool:
		return fmt.Sprint(value), true
	}
	return nil, false
}
