package cli

import (
	"fmt"
	"io"
	"strconv"

	"github.com/holdfast-gitops/holdfast/reconciler"
)

// driftLines are the lines that desired values come from, and who wrote them.
func (a *app) driftLines(w io.Writer, r reconciler.Report) {
	var rows [][]string
	for _, e := range r.Episodes {
		for _, c := range e.Changes {
			l := c.Line
			if l == nil {
				continue
			}
			field, by := c.Path, cell(l.Author, 60)
			if field == "" {
				field = "(object)"
			}
			subject, when := cell(l.Subject, 80), l.Time.Format("2006-01-02")
			if l.Unsure != "" {
				by, subject, when = "not known", cell(l.Unsure, 80), ""
			}
			rows = append(rows, []string{
				cell(e.Environment, 80), cell(e.Object.String(), 80), cell(field, 80), cell(e.Origin.File+":"+strconv.Itoa(l.Number), 120), by, when, l.Short(), subject,
			})
		}
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "of no line it is known who wrote it")
	} else {
		printTable(w, []string{"environment", "object", "field", "line", "written by", "on", "commit", "subject"}, rows)
	}
	fmt.Fprintln(w)
}
