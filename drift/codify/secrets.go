package codify

import (
	"encoding/base64"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
)

// minSecret is how long a text must be to be looked for: shorter ones are found
// everywhere.
const minSecret = 6

// holdsSecret reports whether a diff shows anything of the sensitive objects that
// the files render to: its lines around a change may be those of a Secret, or of
// what one is generated from.
func holdsSecret(diff string, rendered map[string][]sources.Item) bool {
	for _, items := range rendered {
		for _, item := range items {
			if !item.Sensitive {
				continue
			}
			root, err := decode(item.Body)
			object, ok := root.(map[string]any)
			if err != nil || !ok {
				return true
			}
			for key, value := range object {
				if key != "apiVersion" && key != "kind" && key != "metadata" && shows(diff, value) {
					return true
				}
			}
		}
	}
	return false
}

// shows reports whether a text holds any line of the strings in a value, as they
// are or decoded.
func shows(text string, value any) bool {
	switch v := value.(type) {
	case map[string]any:
		for _, e := range v {
			if shows(text, e) {
				return true
			}
		}
	case []any:
		for _, e := range v {
			if shows(text, e) {
				return true
			}
		}
	case string:
		plain, _ := base64.StdEncoding.DecodeString(v) // nothing, if it is none
		for _, s := range []string{v, string(plain)} {
			for line := range strings.Lines(s) {
				if line = strings.TrimSpace(line); len(line) >= minSecret && strings.Contains(text, line) {
					return true
				}
			}
		}
	}
	return false
}
