package sources

import (
	"errors"
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with what a repository says, told so that
// a person can mend it: where, what, and where possible what to do.
type Problem struct {
	// File is the path in the snapshot; Line and Column count from 1 and are 0
	// when unknown.
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	// Object names the object it is about, where there is one.
	Object string `json:"object,omitempty"`
	// Message says what is wrong: lower case, no full stop, no values of secrets.
	Message string `json:"message"`
	// Hint says what to do about it, where that is known.
	Hint string `json:"hint,omitempty"`
}

// Error is "file:line:column: object: message (hint)".
func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
			if p.Column > 0 {
				fmt.Fprintf(&b, ":%d", p.Column)
			}
		}
		b.WriteString(": ")
	}
	if p.Object != "" {
		b.WriteString(p.Object + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// Problems is all that is wrong, not the first of it.
type Problems []Problem

// Error is one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Err is nil when there are no problems, else the problems.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// ProblemsOf finds the problems in an error; an error that carries none becomes
// one problem with its text.
func ProblemsOf(err error) Problems {
	if err == nil {
		return nil
	}
	var many Problems
	if errors.As(err, &many) {
		return many
	}
	var one Problem
	if errors.As(err, &one) {
		return Problems{one}
	}
	return Problems{{Message: err.Error()}}
}
