package substitute_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/substitute"
)

var values = substitute.Values{
	"name": "shop", "replicas": int64(3), "ratio": 0.5, "debug": true,
	"hosts": []any{"a.example.org", "b.example.org"}, "nasty": "x\"}, {\"kind\": \"Secret", "nested": "${name}",
	"branch": substitute.Unknown,
}

func TestText(t *testing.T) {
	for _, tt := range []struct {
		in     string
		want   any
		faults string
	}{
		{"plain $name $(name) {name}", "plain $name $(name) {name}", ""},
		{"${name}", "shop", ""},
		{"${replicas}", int64(3), ""},
		{"${replicas|text}", "3", ""},
		{"${ratio}", 0.5, ""},
		{"x-${ratio}", "x-0.5", ""},
		{"${debug}", true, ""},
		{"${hosts}", []any{"a.example.org", "b.example.org"}, ""},
		{"${name}-${replicas}-${debug}", "shop-3-true", ""},
		{"$${name}", "${name}", ""},
		{"$${name} ${name} $${", "${name} shop ${", ""},
		{"$$${name}", "$${name}", ""},
		{"${nested}", "${name}", ""},
		{"a ${nested}", "a ${name}", ""},
		{"${branch}", substitute.Unknown, ""},
		{"x${branch}y${name}", substitute.Unknown, ""},
		{"${nam}", nil, `there is no parameter "nam" (did you mean name? for the text itself write $${nam})`},
		{"${HOME}", nil, `there is no parameter "HOME" (did you mean name? for the text itself write $${HOME})`},
		{"${KUBERNETES_SERVICE_HOST}", nil, `there is no parameter "KUBERNETES_SERVICE_HOST" (known are branch, debug, hosts, name, nasty, nested, ratio, replicas; for the text itself write $${KUBERNETES_SERVICE_HOST})`},
		{"${HOME:-/root}", nil, `${HOME:-/root} is no reference to a parameter (write ${name} with letters, digits and _, or $${HOME:-/root} for the text itself)`},
		{"${", nil, "${ begins no reference to a parameter (write ${name}, or $${ for the text ${)"},
		{"${name", nil, "${ begins no reference to a parameter (write ${name}, or $${ for the text ${)"},
		{"${replicas|number}", nil, `${replicas|number} is no reference to a parameter (write ${name} with letters, digits and _, or $${replicas|number} for the text itself)`},
		{"${nme} and ${}", nil, "there is no parameter \"nme\" (did you mean name? for the text itself write $${nme})\n${} is no reference to a parameter (write ${name} with letters, digits and _, or $${} for the text itself)"},
		{"all: ${hosts}", nil, "parameter hosts is a list, and stands in a text (a list has to stand alone)"},
		{"${hosts|text}", nil, "parameter hosts is a list, and stands in a text (a list has to stand alone)"},
	} {
		got, faults := values.Text(tt.in)
		lines := make([]string, len(faults))
		for i, f := range faults {
			lines[i] = f.Message + " (" + f.Hint + ")"
		}
		if told := strings.Join(lines, "\n"); told != tt.faults {
			t.Errorf("%q: %s\nwant %s", tt.in, told, tt.faults)
		}
		if tt.faults != "" {
			tt.want = tt.in
		}
		if !reflect.DeepEqual(tt.want, got) {
			t.Errorf("%q: %v, want %v", tt.in, got, tt.want)
		}
	}
}

func TestBody(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{
			"types", `{"kind":"X","metadata":{"labels":{"n":"${replicas}"},"name":"${name}-web"},"spec":{"h":"${hosts}","n":"${replicas}","s":"<${replicas|text}>"}}`,
			`{"kind":"X","metadata":{"labels":{"n":"3"},"name":"shop-web"},"spec":{"h":["a.example.org","b.example.org"],"n":3,"s":"<3>"}}`,
		},
		{"no structure from values", `{"kind":"X","spec":{"a":"${nasty}"}}`, `{"kind":"X","spec":{"a":"x\"}, {\"kind\": \"Secret"}}`},
		{"keys, apiVersion and kind stay", `{"apiVersion":"${name}","kind":"${name}","spec":{"${name}":1}}`, `{"apiVersion":"${name}","kind":"${name}","spec":{"${name}":1}}`},
		{"numbers stay as they are", `{"kind":"X","spec":{"a":1e400,"b":12345678901234567890,"c":"${name}"}}`, `{"kind":"X","spec":{"a":1e400,"b":12345678901234567890,"c":"shop"}}`},
		{
			"a Secret's data is left alone", `{"apiVersion":"v1","data":{"a":"${name}"},"kind":"Secret","metadata":{"annotations":{"x":"${oops}"},"name":"${name}"},"stringData":{"a":"${oops}"}}`,
			`{"apiVersion":"v1","data":{"a":"${name}"},"kind":"Secret","metadata":{"annotations":{"x":"${oops}"},"name":"shop"},"stringData":{"a":"${oops}"}}`,
		},
		{
			"told to leave it", `{"data":{"run.sh":"echo ${HOME}"},"kind":"ConfigMap","metadata":{"annotations":{"holdfast.dev/substitute":"disabled"}}}`,
			`{"data":{"run.sh":"echo ${HOME}"},"kind":"ConfigMap","metadata":{"annotations":{"holdfast.dev/substitute":"disabled"}}}`,
		},
		{
			"problems name the field", `{"data":{"a.b":"${nme}","c":["x","${branch}"]},"kind":"ConfigMap","metadata":{"name":"${hosts}"}}`,
			"data[a.b]: there is no parameter \"nme\" (did you mean name? for the text itself write $${nme})\ndata.c[1]: refers to a parameter whose value is not known\nmetadata.name: is text, and a list stands for it",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, problems := substitute.Body([]byte(tt.in), values)
			if len(problems) > 0 {
				got = []byte(problems.Error())
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestItemCarriesIdentityAndPlace(t *testing.T) {
	item := sources.NewItem(sources.ID{Group: "apps", Kind: "Deployment", Name: "${name}"}, "v1", sources.Origin{File: "a.yaml", Line: 7},
		[]byte(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"${name}","namespace":"ns-${name}"}}`), false)
	got, problems := substitute.Item(item, values)
	if len(problems) > 0 || got.ID.Name != "shop" || got.ID.Namespace != "ns-shop" || got.Digest == item.Digest || got.Origin != item.Origin {
		t.Errorf("%+v %v", got, problems)
	}
	if same, _ := substitute.Item(item, nil); same.Digest != item.Digest {
		t.Error("without parameters nothing is replaced")
	}
	_, problems = substitute.Item(item, substitute.Values{"nome": "x"})
	want := "a.yaml:7: Deployment/${name}: metadata.name: there is no parameter \"name\" (did you mean nome? for the text itself write $${name})\n" +
		"a.yaml:7: Deployment/${name}: metadata.namespace: there is no parameter \"name\" (did you mean nome? for the text itself write $${name})"
	if diff := cmp.Diff(want, problems.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestSensitiveItemsAreLeftAlone(t *testing.T) {
	body := `{"apiVersion":"v1","data":{"p":"${hunter2}"},"kind":"ConfigMap","metadata":{"annotations":{"a":"${hunter2}"},"name":"${name}"}}`
	item := sources.NewItem(sources.ID{Kind: "ConfigMap", Name: "${name}"}, "v1", sources.Origin{}, []byte(body), true)
	got, problems := substitute.Item(item, values)
	if want := strings.Replace(body, `"name":"${name}"`, `"name":"shop"`, 1); len(problems) > 0 || string(got.Body) != want || !got.Sensitive {
		t.Errorf("%s %v", got.Body, problems)
	}
}

func TestGrowthIsBounded(t *testing.T) {
	big := substitute.Values{"x": strings.Repeat("y", 60_000)}
	if _, faults := big.Text(strings.Repeat("${x}", 1000)); len(faults) != 1 {
		t.Errorf("faults: %v", faults)
	}
	body := `{"kind":"X","spec":[` + strings.TrimSuffix(strings.Repeat(`"${x}",`, 100_000), ",") + `]}`
	if _, problems := substitute.Body([]byte(body), big); len(problems) == 0 {
		t.Error("6 GB came out")
	}
}

// FuzzBody checks that a body stays the object that it was: what is no text
// scalar does not change, and text without a reference neither.
func FuzzBody(f *testing.F) {
	f.Add(`{"kind":"X","spec":{"a":"${name}","b":["$${x}",1,null,true,"${replicas}"]}}`, "value")
	f.Add(`{"apiVersion":"v1","kind":"Secret","data":{"a":"${name}"}}`, `"}`)
	f.Fuzz(func(t *testing.T, body, value string) {
		var before map[string]any
		if json.Unmarshal([]byte(body), &before) != nil {
			return
		}
		out, problems := substitute.Body([]byte(body), substitute.Values{"name": value, "replicas": int64(2)})
		if len(problems) > 0 {
			return
		}
		var after map[string]any
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("%q is no object: %v", out, err)
		}
		compare(t, before, after)
	})
}

func compare(t *testing.T, a, b any) {
	t.Helper()
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			t.Fatalf("%v became %v", a, b)
		}
		for key := range a {
			compare(t, a[key], b[key])
		}
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			t.Fatalf("%v became %v", a, b)
		}
		for i := range a {
			compare(t, a[i], b[i])
		}
	case string:
		if !substitute.Refers(a) && a != b {
			t.Fatalf("%q became %v", a, b)
		}
	default:
		if a != b {
			t.Fatalf("%v became %v", a, b)
		}
	}
}
