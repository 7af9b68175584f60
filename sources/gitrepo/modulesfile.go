package gitrepo

import (
	"errors"
	"fmt"
	"strings"
)

// moduleEntry is what .gitmodules says of one submodule.
type moduleEntry struct {
	path, url string
}

// parseModules reads a file in the format of git's configuration, as far as
// .gitmodules uses it: https://git-scm.com/docs/git-config#_configuration_file
// Sections and keys that are not about submodules are passed over.
func parseModules(b []byte) ([]moduleEntry, error) {
	byName := map[string]*moduleEntry{}
	var names []string
	var current *moduleEntry
	lines := strings.Split(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		number := i + 1
		line := strings.TrimSpace(strings.TrimPrefix(lines[i], "\ufeff"))
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
			continue
		case line[0] == '[':
			name, is, err := sectionName(line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
			current = nil
			if !is {
				continue
			}
			if byName[name] == nil {
				byName[name] = &moduleEntry{}
				names = append(names, name)
			}
			current = byName[name]
			continue
		}
		for oddBackslashes(line) && i+1 < len(lines) {
			i++
			line = line[:len(line)-1] + lines[i]
		}
		key, raw, _ := strings.Cut(line, "=")
		value, err := configValue(raw)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if current == nil {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "path":
			current.path = value
		case "url":
			current.url = value
		}
	}
	var out []moduleEntry
	for _, name := range names {
		if m := byName[name]; m.path != "" && m.url != "" {
			out = append(out, *m)
		}
	}
	return out, nil
}

// sectionName reads [submodule "name"], and tells whether it is one.
func sectionName(line string) (name string, is bool, err error) {
	end := strings.LastIndexByte(line, ']')
	if end < 0 {
		return "", false, errors.New("the section has no end")
	}
	kind, rest, _ := strings.Cut(strings.TrimSpace(line[1:end]), " ")
	rest = strings.TrimSpace(rest)
	if !strings.EqualFold(kind, "submodule") || len(rest) < 2 || rest[0] != '"' || rest[len(rest)-1] != '"' {
		return "", false, nil
	}
	return rest[1 : len(rest)-1], true, nil
}

// oddBackslashes tells that a line goes on on the next.
func oddBackslashes(line string) bool {
	n := len(line) - len(strings.TrimRight(line, `\`))
	return n%2 == 1
}

// configValue reads what is after the equals sign: quotes, escapes and comments.
func configValue(raw string) (string, error) {
	var b strings.Builder
	quoted := false
	kept := 0 // what trailing blanks must not take away
	raw = strings.TrimLeft(raw, " \t")
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '"':
			quoted = !quoted
			kept = b.Len()
		case c == '\\':
			if i++; i == len(raw) {
				return "", errors.New("the value ends with a backslash")
			}
			at := strings.IndexByte(`"\ntb`, raw[i])
			if at < 0 {
				return "", fmt.Errorf("there is no escape \\%c", raw[i])
			}
			b.WriteByte("\"\\\n\t\b"[at])
			kept = b.Len()
		case !quoted && (c == '#' || c == ';'):
			i = len(raw)
		default:
			b.WriteByte(c)
			if quoted || c != ' ' && c != '\t' {
				kept = b.Len()
			}
		}
	}
	if quoted {
		return "", errors.New("the value has an open quote")
	}
	return b.String()[:kept], nil
}
