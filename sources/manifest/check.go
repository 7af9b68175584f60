package manifest

import (
	"encoding/base64"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/holdfast-gitops/holdfast/sources"
)

// checker checks one object and reports everything that is wrong with it.
type checker struct {
	p      *parser
	doc    document
	object map[string]any
	name   string
	failed bool
}

func (c *checker) fail(message, hint string, field ...string) {
	c.failed = true
	c.p.at(c.doc, c.name, message, hint, field...)
}

// later says that a text is checked when its parameters were put in.
func (c *checker) later(s string) bool { return c.p.o.References && strings.Contains(s, "${") }

var kindPattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{0,62}$`)

// identity reads what names the object.
func (c *checker) identity() (id sources.ID, version string) {
	id.Group, version = c.apiVersion()
	kind, ok := c.object["kind"].(string)
	switch {
	case c.object["kind"] == nil || kind == "" && ok:
		c.fail("has no kind", "", "kind")
	case !ok:
		c.fail("kind must be text, and is "+typeName(c.object["kind"]), "", "kind")
	case !kindPattern.MatchString(kind):
		c.fail("kind is not the name of a kind", "a kind is letters and digits, such as Deployment", "kind")
	}
	id.Kind = kind
	metadata, ok := c.object["metadata"].(map[string]any)
	if !ok {
		if c.object["metadata"] != nil {
			c.fail("metadata must be a mapping, and is "+typeName(c.object["metadata"]), "", "metadata")
		} else {
			c.fail("has no metadata.name", "", "metadata")
		}
		return id, version
	}
	id.Namespace = c.namespace(metadata)
	id.Name = c.objectName(metadata, id)
	if kind != "" && id.Name != "" {
		c.name = id.String()
	}
	return id, version
}

func (c *checker) apiVersion() (group, version string) {
	value, ok := c.object["apiVersion"].(string)
	switch {
	case c.object["apiVersion"] == nil || value == "" && ok:
		c.fail("has no apiVersion", "", "apiVersion")
		return "", ""
	case !ok:
		c.fail("apiVersion must be text, and is "+typeName(c.object["apiVersion"]), "put it in quotes", "apiVersion")
		return "", ""
	}
	version = value
	if g, v, found := strings.Cut(value, "/"); found {
		group, version = g, v
	}
	bad := len(validation.IsDNS1035Label(version)) > 0 ||
		group != "" && len(validation.IsDNS1123Subdomain(group)) > 0 ||
		strings.HasPrefix(value, "/")
	if bad {
		c.fail("apiVersion is neither VERSION nor GROUP/VERSION", "such as v1 or apps/v1", "apiVersion")
	}
	return group, version
}

func (c *checker) namespace(metadata map[string]any) string {
	value, ok := metadata["namespace"].(string)
	if !ok {
		if metadata["namespace"] != nil {
			c.fail("metadata.namespace must be text, and is "+typeName(metadata["namespace"]), "put it in quotes", "metadata", "namespace")
		}
		return ""
	}
	if value == "" {
		// kubectl takes an empty namespace for none.
		delete(metadata, "namespace")
		return ""
	}
	if c.later(value) {
		return value
	}
	if len(validation.IsDNS1123Label(value)) > 0 {
		c.fail("metadata.namespace is not the name of a namespace", "at most 63 lower case letters, digits and dashes", "metadata", "namespace")
		return ""
	}
	return value
}

func (c *checker) objectName(metadata map[string]any, id sources.ID) string {
	name, ok := metadata["name"].(string)
	if !ok && metadata["name"] != nil {
		c.fail("metadata.name must be text, and is "+typeName(metadata["name"]), "put it in quotes", "metadata", "name")
		return ""
	}
	if name == "" {
		if metadata["generateName"] != nil {
			c.fail("has generateName and no name", "what git asks for needs a fixed name: set metadata.name", "metadata", "generateName")
		} else {
			c.fail("has no metadata.name", "", "metadata")
		}
		return ""
	}
	if c.later(name) {
		return name
	}
	if wrong, hint := badName(id, name); wrong != "" {
		c.fail("metadata.name "+wrong, hint, "metadata", "name")
		return ""
	}
	return name
}

// badName applies the rule of the kind where it is known. RBAC, IP addresses, API
// services, trust bundles and the kinds of unknown API servers take any name that
// can be part of a path.
func badName(id sources.ID, name string) (wrong, hint string) {
	if problems := content.IsPathSegmentName(name); len(problems) > 0 {
		return problems[0], ""
	}
	if len(name) > 253 {
		return "is longer than 253 characters", ""
	}
	builtin := !strings.Contains(id.Group, ".") || strings.HasSuffix(id.Group, ".k8s.io")
	if !builtin || id.Group == "rbac.authorization.k8s.io" || id.Kind == "IPAddress" || id.Kind == "APIService" || id.Kind == "ClusterTrustBundle" {
		return "", ""
	}
	if id.Group == "" && id.Kind == "Namespace" {
		if len(validation.IsDNS1123Label(name)) > 0 {
			return "is not the name of a namespace", "at most 63 lower case letters, digits and dashes"
		}
		return "", ""
	}
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		return "is not a valid name", "lower case letters, digits, dashes and dots"
	}
	return "", ""
}

// labels checks labels and annotations.
func (c *checker) labels() {
	metadata, _ := c.object["metadata"].(map[string]any)
	for _, field := range []string{"labels", "annotations"} {
		value := metadata[field]
		if value == nil {
			continue
		}
		m, ok := value.(map[string]any)
		if !ok {
			c.fail("metadata."+field+" must be a mapping, and is "+typeName(value), "", "metadata", field)
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(m)) {
			c.label(field, key, m[key])
		}
	}
}

func (c *checker) label(field, key string, value any) {
	where := "metadata." + field + "[" + key + "]"
	s, ok := value.(string)
	if !ok {
		hint := "put it in quotes"
		if value == nil {
			hint = "take the key out, or write \"\""
		}
		c.fail(where+" must be text, and is "+typeName(value), hint, "metadata", field, key)
		return
	}
	name := key
	if field == "annotations" {
		name = strings.ToLower(key)
	}
	if problems := validation.IsQualifiedName(name); len(problems) > 0 {
		c.fail(where+" is not a valid key", "[PREFIX/]NAME, the name at most 63 letters, digits, '-', '_' and '.'", "metadata", field, key)
		return
	}
	if field == "labels" && !c.later(s) && len(validation.IsValidLabelValue(s)) > 0 {
		c.fail(where+" is not a valid value of a label", "at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit", "metadata", field, key)
	}
}

// secret merges stringData into data, which is what a server does with it, so
// that desired and live have one form.
func (c *checker) secret() {
	data, ok := c.mapping("data")
	if !ok {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if data[key] == nil {
			continue
		}
		s, ok := data[key].(string)
		if !ok {
			c.fail("data["+key+"] must be text, and is "+typeName(data[key]), "put it in quotes", "data", key)
			continue
		}
		if _, err := base64.StdEncoding.DecodeString(s); err != nil {
			c.fail("data["+key+"] is not base64", "plain text belongs under stringData", "data", key)
		}
	}
	plain, ok := c.mapping("stringData")
	if !ok {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(plain)) {
		s, ok := plain[key].(string)
		if !ok {
			c.fail("stringData["+key+"] must be text, and is "+typeName(plain[key]), "put it in quotes", "stringData", key)
			continue
		}
		if data == nil {
			data = map[string]any{}
		}
		data[key] = base64.StdEncoding.EncodeToString([]byte(s))
	}
	delete(c.object, "stringData")
	if data != nil {
		c.object["data"] = data
	}
}

func (c *checker) mapping(field string) (map[string]any, bool) {
	value := c.object[field]
	if value == nil {
		return nil, true
	}
	m, ok := value.(map[string]any)
	if !ok {
		c.fail(field+" must be a mapping, and is "+typeName(value), "", field)
	}
	return m, ok
}
