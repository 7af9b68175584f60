// Package manifest turns files of Kubernetes objects into items.
//
// It is pure: bytes go in, items and problems come out, and the same bytes give
// the same items. An object reads as kubectl reads it (YAML 1.1 through
// sigs.k8s.io/yaml, JSON through sigs.k8s.io/json), or, where asked, as
// kustomize does (YAML 1.2). It knows no cluster and no kustomization.
//
// The body of an item is compact JSON with sorted keys and unescaped HTML
// characters. Gone from it are status, the metadata that only a server sets, and
// empty maps directly below metadata.
// A Secret's stringData is merged into its data. Null values stay where they
// are, because `kubectl apply --server-side` sends them too and a nullable field
// of a custom resource tells null from absent; only directly below metadata,
// where null never means anything, are they dropped.
package manifest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/sources"
)

// ownGroup is the API group of Holdfast's own documents, which lie beside the
// manifests and are no objects of a cluster.
const ownGroup = "holdfast.dev/"

// Dialect says whose reading of YAML counts.
type Dialect int

// The dialects: kubectl reads YAML 1.1, in which an unquoted yes is a boolean;
// kustomize reads 1.2, in which it is a string.
const (
	Kubectl Dialect = iota
	Kustomize
)

// Options bound what is read. The zero value has the defaults.
type Options struct {
	// MaxFileBytes bounds one file. Default: 4 MiB.
	MaxFileBytes int64
	// MaxDocuments bounds the documents and list entries of one file. Default:
	// 10,000.
	MaxDocuments int
	// MaxObjectBytes bounds one object after aliases were expanded. Default:
	// 4 MiB, which is above what an API server stores.
	MaxObjectBytes int
	// MaxDepth bounds how deep an object nests. Default: 200.
	MaxDepth int
	// Dialect is whose reading counts. Default: Kubectl.
	Dialect Dialect
	// References says that names and labels may hold ${…}, which is replaced, and
	// checked, later.
	References bool
	// Decrypt gives the content of an encrypted file, and says whether it was
	// one. What was, is remembered by no cache and gives sensitive items. Without
	// it, encrypted objects are problems.
	Decrypt func(file string, data []byte) (plain []byte, encrypted bool, err error)
	// Cache, which may be nil, remembers what files held.
	Cache *Cache
}

func (o Options) withDefaults() Options {
	o.MaxFileBytes = cmp.Or(o.MaxFileBytes, 4<<20)
	o.MaxDocuments = cmp.Or(o.MaxDocuments, 10_000)
	o.MaxObjectBytes = cmp.Or(o.MaxObjectBytes, 4<<20)
	o.MaxDepth = cmp.Or(o.MaxDepth, 200)
	return o
}

// maxTokens bounds the punctuation of one document, and by it the memory that
// its syntax tree can take: 4 MiB of "[" would otherwise take hundreds of MiB.
const maxTokens = 1_000_000

// Parse reads the objects of one file, in the order of the file. Documents of
// Holdfast's own kinds, empty ones and ones of comments only are skipped. All
// problems of the file come back, and the items that have none.
func Parse(file string, data []byte, o Options) ([]sources.Item, sources.Problems) {
	o = o.withDefaults()
	p := &parser{file: file, o: o}
	if int64(len(data)) > o.MaxFileBytes {
		p.report(0, 0, tooLarge(int64(len(data)), o.MaxFileBytes), "split it into several files")
		return nil, p.problems
	}
	for _, c := range Split(data) {
		if !p.chunk(c) {
			break
		}
	}
	return p.items, p.problems
}

func tooLarge(size, limit int64) string {
	return fmt.Sprintf("is %d bytes, and at most %d are read", size, limit)
}

// Object makes an item of one object that is already JSON.
func Object(origin sources.Origin, data []byte, o Options) ([]sources.Item, sources.Problems) {
	p := &parser{file: origin.File, layer: origin.Layer, o: o.withDefaults()}
	if len(data) > p.o.MaxObjectBytes {
		p.report(origin.Line, 0, tooLarge(int64(len(data)), int64(p.o.MaxObjectBytes)), "")
		return nil, p.problems
	}
	value, err := decodeJSON(data)
	if err != nil {
		p.report(origin.Line, 0, err.Error(), "")
		return nil, p.problems
	}
	p.document(value, document{line: origin.Line})
	return p.items, p.problems
}

// Rendered reads the objects that a template gave. Their lines are not those of
// the template, so the items have none, and problems say which line they mean.
func Rendered(template, layer string, data []byte, o Options) ([]sources.Item, sources.Problems) {
	items, problems := Parse(template, data, o)
	for i := range items {
		items[i].Origin.Layer, items[i].Origin.Line = layer, 0
	}
	for i, p := range problems {
		if p.Line > 0 {
			problems[i].Message = fmt.Sprintf("on line %d of what it renders to: %s", p.Line, p.Message)
		}
		problems[i].Line, problems[i].Column = 0, 0
	}
	return items, problems
}

// TooComplex says whether a text may have more nodes than anybody means.
func TooComplex(text []byte) bool { return tokens(text) > maxTokens }

// parser collects the items and problems of one file.
type parser struct {
	file     string
	layer    string
	o        Options
	count    int
	items    []sources.Item
	problems sources.Problems
}

func (p *parser) report(line, column int, message, hint string) {
	p.problems = append(p.problems, sources.Problem{
		File: p.file, Line: line, Column: column, Message: message, Hint: hint,
	})
}

// counted says whether one more document may be read.
func (p *parser) counted(line int) bool {
	p.count++
	if p.count == p.o.MaxDocuments+1 {
		p.report(line, 0, fmt.Sprintf("has more than %d documents", p.o.MaxDocuments), "split it into several files")
	}
	return p.count <= p.o.MaxDocuments
}

// SortItems orders items by identity, then by where they were written.
func SortItems(items []sources.Item) {
	slices.SortStableFunc(items, func(a, b sources.Item) int {
		return cmp.Or(
			a.ID.Compare(b.ID),
			cmp.Compare(a.Origin.File, b.Origin.File),
			cmp.Compare(a.Origin.Line, b.Origin.Line),
		)
	})
}

// SortProblems orders problems by place.
func SortProblems(ps sources.Problems) {
	slices.SortStableFunc(ps, func(a, b sources.Problem) int {
		return cmp.Or(
			strings.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
		)
	})
}

// Duplicates reports every identity that more than one item has, naming all the
// places. Ask it after namespaces were filled in: before, two objects can differ
// only by a namespace that both will get.
func Duplicates(items []sources.Item) sources.Problems {
	first := make(map[sources.ID]int, len(items))
	var ps sources.Problems
	for i, item := range items {
		j, seen := first[item.ID]
		if !seen {
			first[item.ID] = i
			continue
		}
		other := items[j].Origin
		p := sources.Problem{
			File: item.Origin.File, Line: item.Origin.Line, Object: item.ID.String(),
			Message: "is declared twice, also at " + other.String(),
			Hint:    "keep one of the two",
		}
		if other == item.Origin {
			p.Message, p.Hint = "is declared twice by the same lines", "the file is listed, or the folder included, more than once"
			if item.Origin.Line == 0 {
				p.Message, p.Hint = "is declared twice", ""
			}
		}
		ps = append(ps, p)
	}
	SortProblems(ps)
	return ps
}
