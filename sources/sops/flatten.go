package sops

import (
	"slices"
	"strconv"
	"strings"
)

// A dotenv file has no structure, so the metadata's is in the keys:
// sops_age__list_0__map_enc stands for the first entry's enc under age.
const (
	flatPrefix = "sops_"
	flatMap    = "__map_"
	flatList   = "__list_"
)

// flattened takes the metadata out of a dotenv file.
func (t *tree) flattened() *node {
	root := t.docs[0]
	meta := &node{kind: mapping}
	rest := root.entries[:0:0]
	for _, e := range root.entries {
		path, ours := strings.CutPrefix(e.key, flatPrefix)
		if !ours {
			rest = append(rest, e)
			continue
		}
		meta.place(strings.Split(strings.ReplaceAll(path, flatList, flatMap+"#"), flatMap), e.value)
	}
	root.entries = rest
	if len(meta.entries) == 0 {
		return nil
	}
	meta.sortLists()
	return meta
}

// place puts a value at the end of a path, making what leads there. A step that
// begins with # is an index.
func (n *node) place(path []string, value *node) {
	step := path[0]
	if strings.HasPrefix(step, "#") {
		n.kind = list
	}
	at := slices.IndexFunc(n.entries, func(e entry) bool { return e.key == step })
	if at < 0 {
		n.entries = append(n.entries, entry{key: step, value: &node{kind: mapping}})
		at = len(n.entries) - 1
	}
	if len(path) == 1 {
		n.entries[at].value = value
		return
	}
	n.entries[at].value.place(path[1:], value)
}

// sortLists puts the entries of lists into the order of their indices.
func (n *node) sortLists() {
	if n.kind == list {
		slices.SortStableFunc(n.entries, func(a, b entry) int { return index(a.key) - index(b.key) })
	}
	for _, e := range n.entries {
		e.value.sortLists()
	}
}

func index(key string) int {
	i, err := strconv.Atoi(strings.TrimPrefix(key, "#"))
	if err != nil {
		return 0
	}
	return i
}
