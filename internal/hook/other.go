package hook

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/BurntSushi/toml"
)

// OtherSetting returns the value of one key in the configuration file of another of
// the four programs, or nil if there is no such file or key. It does not check the
// other keys. Bad syntax is a usage error.
func OtherSetting(file, key string) (any, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var values map[string]any
	if err == nil {
		err = toml.Unmarshal(text, &values)
	}
	if err != nil {
		return nil, Usagef("read %s of %s: %s", key, file, oneLine(fmt.Sprint(err)))
	}
	return values[key], nil
}
