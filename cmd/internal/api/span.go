package api

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseSpan reads a length of time: a Go duration such as 90m, or whole days or
// weeks such as 7d and 2w.
func ParseSpan(text string) (time.Duration, error) {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		number, ok := strings.CutSuffix(text, unit)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n > 36500 {
			return 0, fmt.Errorf("%q is no length of time", text)
		}
		return time.Duration(n) * length, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no length of time", text)
	}
	return d, nil
}
