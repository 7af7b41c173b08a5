package hook

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// Table is a setting that is a table of the configuration file.
type Table interface {
	// UnmarshalTOML stores the value of the table's key in the file.
	UnmarshalTOML(value any) error
}

// readTable stores a value of the file in a table. In TOML every key after a table's
// header belongs to that table, so a setting of the program there is an error.
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

// isSetting reports whether a struct of flags has one with the name of a key.
func isSetting(flags reflect.Type, key string) bool {
	for i := range flags.NumField() {
		field := flags.Field(i)
		if field.Anonymous && isSetting(field.Type, key) || dashed(field.Name) == key || field.Tag.Get("name") == key {
			return true
		}
	}
	return false
}

// dashed returns the flag's name for a field: run-dir for RunDir.
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
