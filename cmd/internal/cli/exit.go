package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/sources"
)

// The exit codes of every verb.
const (
	exitClean   = 0
	exitError   = 1
	exitChanges = 2
	exitInvalid = 3
)

// outcome ends a verb with an exit code, and an error if there is something to
// say.
type outcome struct {
	code int
	err  error
}

// Error is the error's.
func (o outcome) Error() string {
	if o.err == nil {
		return fmt.Sprintf("exit code %d", o.code)
	}
	return o.err.Error()
}

// Unwrap is the error.
func (o outcome) Unwrap() error { return o.err }

// exit ends a verb that has printed all there is to say.
func exit(code int) error {
	if code == exitClean {
		return nil
	}
	return outcome{code: code}
}

// failed ends a verb with an error that came up while it worked.
func failed(err error) error {
	var p api.Problem
	if errors.As(err, &p) && (p.Status == http.StatusNotFound || p.Status == http.StatusBadRequest) {
		return invalid(err)
	}
	return outcome{code: exitError, err: err}
}

// invalid ends a verb because of what it was given.
func invalid(err error) error { return outcome{code: exitInvalid, err: err} }

// usage is a mistake on the command line.
type usage struct{ message, hint string }

// Error is the message.
func (u usage) Error() string { return u.message }

// Advice is the hint.
func (u usage) Advice() string { return u.hint }

// report prints what a verb ended with, and returns its exit code. An error that
// no verb made is cobra's about the command line.
func (a *app) report(err error) int {
	if err == nil {
		return exitClean
	}
	var o outcome
	if !errors.As(err, &o) {
		o = outcome{code: exitInvalid, err: usage{err.Error(), "`holdfast help` lists the verbs, and each has --help"}}
	}
	if o.err != nil {
		a.printError(o.err)
	}
	return o.code
}

// printError prints problems with their place, one below the other, and other
// errors with their hint.
func (a *app) printError(err error) {
	var many sources.Problems
	var one sources.Problem
	switch {
	case errors.As(err, &many):
		printProblems(a.stderr, "error: ", many)
		return
	case errors.As(err, &one):
		printProblems(a.stderr, "error: ", sources.Problems{one})
		return
	}
	fmt.Fprintf(a.stderr, "error: %s\n", printable(err.Error()))
	var advice interface{ Advice() string }
	if errors.As(err, &advice) && advice.Advice() != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", printable(advice.Advice()))
	}
}

// printProblems prints each problem, its hint on a line of its own below it.
func printProblems(w io.Writer, prefix string, problems sources.Problems) {
	for _, p := range problems {
		hint := p.Hint
		p.Hint = ""
		fmt.Fprintf(w, "%s%s\n", prefix, printable(p.Error()))
		if hint != "" {
			fmt.Fprintf(w, "%*shint: %s\n", len(prefix), "", printable(hint))
		}
	}
}
