package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

var formats = []string{"table", "json", "yaml"}

// addFormat adds -o to a verb, which may know more formats than others.
func (a *app) addFormat(c *cobra.Command, more ...string) {
	c.Flags().StringVarP(&a.format, "output", "o", "table", "output format: "+strings.Join(slices.Concat(formats, more), ", "))
}

// print writes a value in the chosen format; asTable does so for people.
func (a *app) print(v any, asTable func(io.Writer)) error {
	switch a.format {
	case "json":
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the output: %w", err)
		}
		_, err = fmt.Fprintf(a.stdout, "%s\n", data)
		return err
	case "yaml":
		data, err := yaml.Marshal(v)
		if err != nil {
			return fmt.Errorf("encode the output: %w", err)
		}
		_, err = a.stdout.Write(data)
		return err
	}
	asTable(a.stdout)
	return nil
}

// checkFormat comes before a verb does anything.
func (a *app) checkFormat(more ...string) error {
	if known := slices.Concat(formats, more); !slices.Contains(known, a.format) {
		return invalid(usage{fmt.Sprintf("output format %q is not known", a.format), "formats are " + strings.Join(known, ", ")})
	}
	return nil
}

// isTerminal reports whether people see what is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colors reports whether colours are wanted.
func (a *app) colors(w io.Writer) bool { return isTerminal(w) && a.env("NO_COLOR") == "" }

// printTable prints plain columns. What comes from clusters or repositories has
// to go through cell, so that it cannot move the cursor.
func printTable(w io.Writer, header []string, rows [][]string) {
	t := table.NewWriter()
	t.SetStyle(table.Style{
		Box:     table.BoxStyle{PaddingRight: "  ", MiddleVertical: ""},
		Format:  table.FormatOptions{Header: text.FormatUpper},
		Options: table.Options{},
	})
	t.AppendHeader(cells(header))
	for _, r := range rows {
		t.AppendRow(cells(r))
	}
	for line := range strings.Lines(t.Render()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

func cells(texts []string) table.Row {
	row := make(table.Row, len(texts))
	for i, s := range texts {
		row[i] = s
	}
	return row
}

// printable replaces what a terminal would obey rather than show. New lines and
// tabs of messages stay.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, s)
}

// cell makes text fit for a table: printable, on one line, and not too long.
func cell(s string, limit int) string {
	s = strings.Join(strings.Fields(printable(s)), " ")
	if runes := []rune(s); len(runes) > limit {
		return string(runes[:limit-1]) + "…"
	}
	return s
}

var syncColors = map[reconciler.Sync]text.Color{
	reconciler.SyncClean: text.FgGreen, reconciler.SyncDrifted: text.FgYellow, reconciler.SyncChanges: text.FgYellow,
	reconciler.SyncRemoved: text.FgYellow, reconciler.SyncFailed: text.FgRed, reconciler.SyncStale: text.FgRed,
}

// syncWord is how an environment stands, coloured where people see it.
func (a *app) syncWord(w io.Writer, s reconciler.Sync) string {
	c, ok := syncColors[s]
	if !ok || !a.colors(w) {
		return string(s)
	}
	return text.Colors{c}.EscapeSeq() + string(s) + text.Reset.EscapeSeq()
}
