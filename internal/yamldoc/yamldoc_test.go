package yamldoc_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

func parse(t *testing.T, text string) *yamldoc.Node {
	t.Helper()
	n, _, problems := yamldoc.Parse("x.yaml", 1, []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return n
}

func TestParseKnowsPlacesAndResolvesAliases(t *testing.T) {
	n, after, problems := yamldoc.Parse("x.yaml", 10, []byte("# a comment\nbase: &b {a: 1, b: [x, y]}\nmore: {<<: *b, a: 2}\n---\nnext: 1\n"))
	if len(problems) > 0 || after == nil || after.Line != 13 {
		t.Fatalf("%v, after %+v", problems, after)
	}
	want := map[string]any{"base": map[string]any{"a": int64(1), "b": []any{"x", "y"}}, "more": map[string]any{"a": int64(2), "b": []any{"x", "y"}}}
	if diff := cmp.Diff(want, n.Any()); diff != "" {
		t.Error(diff)
	}
	y := n.Get("more").Get("b").Values[1]
	if y.File != "x.yaml" || y.Line != 11 || y.Column != 24 {
		t.Errorf("an alias has the place of what it stands for: %+v", y)
	}
}

func TestMerge(t *testing.T) {
	for _, tt := range []struct{ base, over, want string }{
		{"{a: 1, b: 2}", "{b: 3, c: 4}", `{"a":1,"b":3,"c":4}`},
		{"{a: {x: 1, y: 2}}", "{a: {y: 3}}", `{"a":{"x":1,"y":3}}`},
		{"{a: [1, 2]}", "{a: [3]}", `{"a":[3]}`},
		{"{a: {x: 1}, b: 1}", "{a: null}", `{"b":1}`},
		{"{a: {x: 1, y: 1}}", "{a: {x: null}}", `{"a":{"y":1}}`},
		{"{}", "{a: {b: null, c: 1}}", `{"a":{"c":1}}`},
		{"{a: 1}", "{a: {b: 1}}", `{"a":{"b":1}}`},
		{"{a: {b: 1}}", "{a: x}", `{"a":"x"}`},
	} {
		base := parse(t, tt.base)
		before, _ := base.JSON()
		got, err := yamldoc.Merge(base, parse(t, tt.over)).JSON()
		if err != nil || string(got) != tt.want {
			t.Errorf("%s over %s = %s, %v, want %s", tt.over, tt.base, got, err, tt.want)
		}
		if after, _ := base.JSON(); string(after) != string(before) {
			t.Errorf("merging changed the base %s", tt.base)
		}
	}
}

type colour string

func (colour) Words() []string { return []string{"red", "green"} }

type inner struct {
	Name string `json:"name" need:"true" check:"short"`
}

type outer struct {
	inner
	Text   string            `json:"text"`
	Count  int               `json:"count" min:"1" max:"9"`
	Wait   time.Duration     `json:"wait" min:"1s" max:"1h"`
	Colour colour            `json:"colour"`
	List   []inner           `json:"list"`
	Map    map[string]string `json:"map"`
	Any    map[string]any    `json:"any"`
	Sub    *inner            `json:"sub"`
	Hidden string            `json:"hidden" file:"-"`
}

func into(t *testing.T, text string) (outer, string) {
	t.Helper()
	var d yamldoc.Decoder
	var out outer
	d.Into(parse(t, text), "spec", &out, yamldoc.Checks{Text: map[string]yamldoc.Check{
		"short": func(d *yamldoc.Decoder, n *yamldoc.Node, what, text string) {
			if len(text) > 3 {
				d.Fail(n, what+" is long", "")
			}
		},
	}})
	return out, yamldoc.Sort(d.Problems).Error()
}

func TestInto(t *testing.T) {
	got, problems := into(t, `{name: a, text: b, count: 9, wait: 1m, colour: green, list: [{name: c}], map: {x: y, e: ""}, any: {n: null, f: 0.5}, sub: {name: d}}`)
	want := outer{
		Text: "b", Count: 9, Wait: time.Minute, Colour: "green", List: []inner{{"c"}},
		Map: map[string]string{"x": "y", "e": ""}, Any: map[string]any{"n": nil, "f": 0.5}, Sub: &inner{"d"},
	}
	want.Name = "a"
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(outer{})); diff != "" || problems != "" {
		t.Error(diff, problems)
	}
	_, problems = into(t, "txt: 1\ntext: 1\ncount: 10\nwait: 2h\ncolour: blue\nlist: [{name: long}, {}]\nmap: [a]\nsub: x\nhidden: x\nany: 3")
	if diff := cmp.Diff(strings.TrimSpace(`
x.yaml:1:1: unknown key "txt" in spec (did you mean text?)
x.yaml:1:1: spec has no name
x.yaml:2:7: spec.text must be text, and is a number (put it in quotes)
x.yaml:3:8: spec.count must be a number from 1 to 9, and is "10"
x.yaml:4:7: spec.wait is 2h, and must be at most 1h
x.yaml:5:9: spec.colour "blue" is not known (allowed are red, green)
x.yaml:6:15: spec.list[0].name is long
x.yaml:6:22: spec.list[1] has no name
x.yaml:7:6: spec.map must be a mapping, and is a list
x.yaml:8:6: spec.sub must be a mapping, and is text
x.yaml:9:1: unknown key "hidden" in spec (known are name, text, count, wait, colour, list, map, any, sub)
x.yaml:10:6: spec.any must be a mapping, and is a number`), problems); diff != "" {
		t.Error(diff)
	}
}

func TestDescribeRecordsWhatIsRead(t *testing.T) {
	n, shape := yamldoc.Describe()
	var d yamldoc.Decoder
	var s string
	var b bool
	d.Mapping(n, "the file",
		yamldoc.Field{Key: "a", Read: func(n *yamldoc.Node) { d.Word(n, "a", &s, "x", "y") }},
		yamldoc.Field{Key: "l", Read: func(n *yamldoc.Node) {
			for _, e := range d.List(n, "l") {
				d.Bool(e, "l", &b)
			}
		}},
	)
	if shape.Type != "object" || shape.Fields["a"].Words[1] != "y" || shape.Fields["l"].Items.Type != "boolean" || len(d.Problems) > 0 {
		t.Errorf("%+v", shape)
	}
}

// TestLargeDocumentsTakeNoLongerThanTheirSize: 40,000 keys merged and laid over
// each other are a matter of a moment, not of their square.
func TestLargeDocumentsTakeNoLongerThanTheirSize(t *testing.T) {
	var b strings.Builder
	b.WriteString("base: &b\n")
	for i := range 40_000 {
		fmt.Fprintf(&b, "  k%d: 1\n", i)
	}
	b.WriteString("more:\n  <<: *b\n")
	for i := range 40_000 {
		fmt.Fprintf(&b, "  m%d: 1\n", i)
	}
	started := time.Now()
	n := parse(t, b.String())
	if got := len(yamldoc.Merge(n, n).Get("more").Keys); got != 80_000 {
		t.Errorf("%d keys", got)
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

// FuzzParse checks that whatever is parsed is bounded, has places, and can be
// written as JSON.
func FuzzParse(f *testing.F) {
	f.Add("a: &a [x, {b: *a}]")
	f.Add("a: {<<: [{b: 1}, {c: 2}], b: 3}\n--- \nx")
	f.Add("? [a]\n: b\n!!binary x: .inf")
	f.Fuzz(func(t *testing.T, text string) {
		n, _, problems := yamldoc.Parse("x.yaml", 1, []byte(text))
		if n == nil {
			return
		}
		if n.Line < 1 && len(problems) == 0 {
			t.Errorf("%q has no place", text)
		}
		out, err := n.JSON()
		if err != nil || !json.Valid(out) {
			t.Errorf("%q: %s, %v", text, out, err)
		}
		merged, err := yamldoc.Merge(n, n).JSON()
		if err != nil || !json.Valid(merged) {
			t.Errorf("%q over itself: %s, %v", text, merged, err)
		}
	})
}
