package drift

import "strings"

// peoplesTools are the beginnings of manager names that people's tools use.
var peoplesTools = []string{"kubectl", "k9s", "Mozilla", "node-fetch", "OpenAPI-Generator", "rancher"}

// CauseOf guesses the cause of a drift from the managers of its changes: a tool
// that people use, another program, or unknown.
func CauseOf(managers []string) Cause {
	cause := UnknownCause
	for _, m := range managers {
		if m == Unknown {
			continue
		}
		for _, tool := range peoplesTools {
			if strings.HasPrefix(m, tool) {
				return Manual
			}
		}
		cause = Controller
	}
	return cause
}
