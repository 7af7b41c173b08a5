package swanctl

// Unique returns the connections that let one identity have one session at a time,
// with the value of unique that says so: keep or replace.
func (c *Config) Unique() map[string]string {
	all := map[string]string{}
	connections := c.section("connections")
	for _, name := range connections.order {
		switch unique := connections.sections[name].values["unique"]; unique {
		case "keep", "replace":
			all[name] = unique
		}
	}
	return all
}
