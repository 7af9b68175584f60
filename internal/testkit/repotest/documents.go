package repotest

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	mdLink    = regexp.MustCompile(`[^!]\[[^\]]*\]\(([^)\s]+)\)`)
	mdHeading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	mdFence   = regexp.MustCompile("(?ms)^```.*?^```")
	notAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// Links finds links in documents that lead to no file or heading of the tree.
// Pictures and other sites are not looked at.
func Links(t Tree) []string {
	var out []string
	for _, f := range t.Text {
		if path.Ext(f.Path) != ".md" {
			continue
		}
		for _, m := range mdLink.FindAllSubmatch(mdFence.ReplaceAll(f.Text, nil), -1) {
			link := string(m[1])
			if strings.Contains(link, "://") {
				continue
			}
			file, anchor, _ := strings.Cut(link, "#")
			to := f.Path
			if file != "" {
				to = path.Join(path.Dir(f.Path), file)
			}
			if why := t.leadsNowhere(to, anchor); why != "" {
				out = append(out, fmt.Sprintf("%s: link to %s: %s", f.Path, link, why))
			}
		}
	}
	return out
}

func (t Tree) leadsNowhere(to, anchor string) string {
	if anchor != "" {
		for _, h := range mdHeading.FindAllSubmatch(mdFence.ReplaceAll(t.text(to), nil), -1) {
			if anchorOf(string(h[1])) == anchor {
				return ""
			}
		}
		return "there is no such heading"
	}
	if !slices.ContainsFunc(t.Text, func(f TextFile) bool { return within(f.Path, to) }) {
		return "there is no such file"
	}
	return ""
}

// anchorOf is what a heading is linked by.
func anchorOf(heading string) string {
	text := notAnchor.ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(text, " ", "-")
}

// The metrics are made in one package and described in one document.
const (
	metricsCode = "cmd/internal/daemon"
	metricsText = "docs/metrics.md"
)

var metricName = regexp.MustCompile(`\bholdfast_[a-z_]+`)

// Metrics finds metrics without a description, and descriptions of none.
func Metrics(t Tree) []string {
	var made [][]byte
	for _, f := range t.Text {
		if path.Dir(f.Path) == metricsCode && path.Ext(f.Path) == ".go" && !strings.HasSuffix(f.Path, "_test.go") {
			made = append(made, metricName.FindAll(f.Text, -1)...)
		}
	}
	told := metricName.FindAll(t.text(metricsText), -1)
	var out []string
	for _, m := range made {
		if !containsText(told, m) {
			out = append(out, fmt.Sprintf("%s: does not describe %s", metricsText, m))
		}
	}
	for _, m := range told {
		if !containsText(made, m) {
			out = append(out, fmt.Sprintf("%s: describes %s, which there is not", metricsText, m))
		}
	}
	return out
}

func containsText(list [][]byte, text []byte) bool {
	return slices.ContainsFunc(list, func(b []byte) bool { return bytes.Equal(b, text) })
}
