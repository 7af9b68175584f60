package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"text/template"
	"time"

	"github.com/Masterminds/sprig/v3"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// clock are the template functions that ask for the time, asking ours: of the
// two renderings of a chart the second is at another time, so that a date shows
// even where only its year is used.
func clock(now time.Time) template.FuncMap {
	sprigs := sprig.TxtFuncMap()
	// Given anything that is no time, sprig's functions take the present.
	at := func(date any) any {
		switch v := date.(type) {
		case time.Time, *time.Time, int64, int, int32:
			return v
		}
		return now
	}
	format := sprigs["dateInZone"].(func(string, any, string) string)
	ago := func(date any) string {
		t := now
		switch v := date.(type) {
		case time.Time:
			t = v
		case int64:
			t = time.Unix(v, 0)
		case int:
			t = time.Unix(int64(v), 0)
		}
		return now.Sub(t).Round(time.Second).String()
	}
	inZone := func(layout string, date any, zone string) string { return format(layout, at(date), zone) }
	return template.FuncMap{
		"now": func() time.Time { return now },
		"ago": ago,
		"date": func(layout string, date any) string {
			return inZone(layout, date, "UTC")
		},
		"dateInZone": inZone, "date_in_zone": inZone,
		"htmlDate":       func(date any) string { return inZone("2006-01-02", date, "UTC") },
		"htmlDateInZone": func(date any, zone string) string { return inZone("2006-01-02", date, zone) },
	}
}

// sameDocuments says whether two texts hold the same objects: a comment may
// differ.
func sameDocuments(a, b string) bool {
	as, bs := manifest.Split([]byte(a)), manifest.Split([]byte(b))
	if len(as) != len(bs) {
		return false
	}
	for i := range as {
		if bytes.Equal(as[i].Text, bs[i].Text) {
			continue
		}
		var x, y any
		if yaml.Unmarshal(as[i].Text, &x) != nil || yaml.Unmarshal(bs[i].Text, &y) != nil || !reflect.DeepEqual(x, y) {
			return false
		}
	}
	return true
}

// closedSchemas refuses a schema that refers to another place: it would be
// fetched, or read from a disk.
func closedSchemas(c *chart.Chart, name string) error {
	if len(c.Schema) > 0 {
		file := name + "/values.schema.json"
		var root any
		if json.Unmarshal(c.Schema, &root) != nil {
			return chartFailure{File: file, Message: "is not JSON"}
		}
		ids := map[string]bool{}
		schemaRefs(root, func(key, value string) {
			if key == "$id" || key == "id" {
				ids[strings.TrimSuffix(value, "#")] = true
			}
		})
		var bad string
		schemaRefs(root, func(key, value string) {
			if (key == "$ref" || key == "$schema") && !closedRef(value, ids) {
				bad = value
			}
		})
		if bad != "" {
			return chartFailure{File: file, Message: fmt.Sprintf("refers to %q, and nothing is fetched", bad), Hint: "copy it under $defs"}
		}
	}
	for _, d := range c.Dependencies() {
		if err := closedSchemas(d, name+"/charts/"+d.Name()); err != nil {
			return err
		}
	}
	return nil
}

// closedRef says whether a reference stays inside its document. The schemas of
// JSON Schema itself come with the library.
func closedRef(ref string, ids map[string]bool) bool {
	base, _, _ := strings.Cut(ref, "#")
	if base == "" || ids[base] {
		return true
	}
	u, err := url.Parse(base)
	return err == nil && u.Host == "json-schema.org" && (u.Scheme == "http" || u.Scheme == "https")
}

// schemaRefs visits every text under a key.
func schemaRefs(v any, visit func(key, value string)) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if s, ok := value.(string); ok {
				visit(key, s)
			}
			schemaRefs(value, visit)
		}
	case []any:
		for _, e := range v {
			schemaRefs(e, visit)
		}
	}
}
