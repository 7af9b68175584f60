package environment

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
	"github.com/holdfast-gitops/holdfast/sources"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
	"github.com/holdfast-gitops/holdfast/sources/substitute"
)

// checker looks at what a spec says as a whole.
type checker struct {
	*yamldoc.Decoder
	tree sources.Tree
	doc  *document
	spec *Spec
	// written is the merged spec before, and at after, parameters were put in.
	written, at *yamldoc.Node
}

func (c *checker) check() {
	if c.elsewhere() {
		c.tree = nil
	}
	c.path()
	if n := c.at.Get("createNamespace"); c.spec.CreateNamespace && c.at.Get("namespace") == nil && c.doc.kind == Kind {
		c.Fail(n, "spec.createNamespace needs spec.namespace", "name the namespace that is to be made")
	}
	c.images()
	c.replicas()
	c.patches()
	c.helm()
	c.names()
	c.preview()
	if n := c.at.Get("decryption"); n != nil && n.Kind == yamldoc.Mapping && n.Get("sops") == nil {
		c.Fail(n, "spec.decryption has no sops", "name the keys under sops.keys")
	}
}

// elsewhere reports whether the files lie in another snapshot than the spec.
func (c *checker) elsewhere() bool {
	return c.spec.Source != nil || c.spec.Preview != nil || c.at.Get("source") != nil
}

// path fills in the default and looks whether the folder is there.
func (c *checker) path() {
	n := c.at.Get("path")
	if n == nil || n.Tag == yamldoc.TagUnknown || c.spec.Path == "" {
		c.spec.Path = c.spec.defaultPath()
		return
	}
	if clean := path.Clean(c.spec.Path); fs.ValidPath(clean) {
		c.spec.Path = clean
		c.exists(n, "spec.path", clean, true)
	}
}

// exists looks for a folder or file.
func (c *checker) exists(n *yamldoc.Node, what, name string, folder bool) {
	clean := path.Clean(name)
	if c.tree == nil || n.Tag == yamldoc.TagUnknown || !fs.ValidPath(clean) {
		return
	}
	info, err := c.tree.Stat(clean)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint, err := manifest.Missing(c.tree, clean)
		if err != nil {
			hint = ""
		}
		c.Fail(n, fmt.Sprintf("%s %q does not exist", what, n.Value), hint)
	case err != nil:
		c.Fail(n, fmt.Sprintf("%s %q cannot be read: %v", what, n.Value, err), "")
	case folder && !info.IsDir():
		c.Fail(n, fmt.Sprintf("%s %q is not a folder", what, n.Value), "name the folder that holds it")
	case !folder && info.IsDir():
		c.Fail(n, fmt.Sprintf("%s %q is a folder, not a file", what, n.Value), "")
	}
}

// entries are the mappings of a list, by their place in it.
func (c *checker) entries(key string) map[int]*yamldoc.Node {
	out := map[int]*yamldoc.Node{}
	if n := c.at.Get(key); n != nil && n.Kind == yamldoc.List {
		for i, e := range n.Values {
			if e.Kind == yamldoc.Mapping {
				out[i] = e
			}
		}
	}
	return out
}

func (c *checker) images() {
	first := map[string]int{}
	entries := c.entries("images")
	for i, image := range c.spec.Images {
		n := entries[i]
		if n == nil {
			continue
		}
		what := fmt.Sprintf("spec.images[%d]", i)
		c.once(n.Get("name"), what+".name", image.Name, first)
		if n.Get("newName") == nil && n.Get("newTag") == nil && n.Get("digest") == nil {
			c.Fail(n, what+" changes nothing", "set newName, newTag or digest")
		}
		if n.Get("newTag") != nil && n.Get("digest") != nil {
			c.Fail(n.Get("digest"), what+" has both newTag and digest", "a digest takes the place of the tag")
		}
	}
}

func (c *checker) replicas() {
	first := map[string]int{}
	entries := c.entries("replicas")
	for i, r := range c.spec.Replicas {
		if n := entries[i]; n != nil {
			c.once(n.Get("name"), fmt.Sprintf("spec.replicas[%d].name", i), r.Name, first)
		}
	}
}

// once reports a name that was there before.
func (c *checker) once(n *yamldoc.Node, what, name string, first map[string]int) {
	if n == nil || name == "" {
		return
	}
	if line, twice := first[name]; twice {
		c.Fail(n, fmt.Sprintf("%s %q is already used at line %d", what, name, line), "")
		return
	}
	first[name] = n.Line
}

func (c *checker) patches() {
	entries := c.entries("patches")
	for i, patch := range c.spec.Patches {
		n, what := entries[i], fmt.Sprintf("spec.patches[%d]", i)
		if n == nil {
			continue
		}
		inline, file := n.Get("patch"), n.Get("path")
		switch {
		case inline == nil && file == nil:
			c.Fail(n, what+" has neither patch nor path", "patch: is the patch itself, path: a file")
		case inline != nil && file != nil:
			c.Fail(file, what+" has both patch and path", "one patch is one of them")
		case file != nil:
			c.exists(file, what+".path", patch.Path, false)
		case patch.Patch != "":
			c.inline(inline, what+".patch", patch.Patch, n.Get("target") != nil)
		}
	}
}

// inline looks at a patch that is written into the spec.
func (c *checker) inline(n *yamldoc.Node, what, text string, targeted bool) {
	for _, chunk := range manifest.Split([]byte(text)) {
		root, _, problems := yamldoc.Parse("", 1, chunk.Text)
		switch {
		case len(problems) > 0:
			c.Fail(n, what+" "+problems[0].Message, "")
		case root == nil:
		case root.Kind == yamldoc.List && !targeted:
			c.Fail(n, what+" is a list of JSON patch operations, and has no target", "say under target which objects it changes")
		case root.Kind == yamldoc.Mapping && !targeted && (root.Text("kind") == "" || root.Get("metadata").Text("name") == ""):
			c.Fail(n, what+" names no object", "give it kind and metadata.name, or a target")
		case root.Kind == yamldoc.Scalar:
			c.Fail(n, what+" is neither a mapping nor a list", "write a part of an object, or a list of JSON patch operations")
		}
	}
}

func (c *checker) helm() {
	n, h := c.at.Get("helm"), c.spec.Helm
	if n == nil || h == nil || n.Kind != yamldoc.Mapping {
		return
	}
	if k := c.at.Get("render"); k != nil && (c.spec.Render == RenderPlain || c.spec.Render == RenderKustomize) {
		c.Fail(k, fmt.Sprintf("spec.render is %s, and spec.helm is set", c.spec.Render), "leave one of them out")
	}
	c.chart(n)
	if files := n.Get("valuesFiles"); files != nil && !h.IgnoreMissingValuesFiles {
		for i, f := range files.Values {
			c.exists(f, fmt.Sprintf("spec.helm.valuesFiles[%d]", i), f.Value, false)
		}
	}
	from := n.Get("valuesFrom")
	for i, v := range h.ValuesFrom {
		if _, known := c.spec.Values[v.Parameter]; known || v.Parameter == "" {
			continue
		}
		var names []string
		for name := range c.spec.Values {
			names = append(names, name)
		}
		hint := "declare it under spec.parameters"
		if best := manifest.Closest(v.Parameter, names); best != "" {
			hint = "did you mean " + best + "?"
		}
		c.Fail(from.Values[i].Get("parameter"), fmt.Sprintf("spec.helm.valuesFrom[%d]: there is no parameter %q", i, v.Parameter), hint)
	}
}

// chart looks at which chart it is.
func (c *checker) chart(n *yamldoc.Node) {
	repo, chart, v := n.Get("repo"), n.Get("chart"), n.Get("version")
	if repo == nil {
		for key, other := range map[string]*yamldoc.Node{"chart": chart, "version": v} {
			if other != nil {
				c.Fail(other, "spec.helm."+key+" is set, and spec.helm.repo is not", "a chart in the repository is named by spec.path")
			}
		}
		return
	}
	if chart == nil {
		c.Fail(n, "spec.helm has a repo, and no chart", "name the chart in it")
	}
	switch {
	case v == nil:
		c.Fail(n, "spec.helm has a repo, and no version", "name one version, so that the same commit gives the same objects")
	case v.Tag == yamldoc.TagText && !version.MatchString(v.Value):
		c.Fail(v, fmt.Sprintf("spec.helm.version %q is not one version", v.Value), "write it in full, such as 1.4.2")
	}
}

// names looks at the environments that a spec names.
func (c *checker) names() {
	c.notItself("dependsOn", c.spec.DependsOn)
	c.notItself("formerly", c.spec.Formerly)
	if a := c.spec.After; a != nil && a.Environment != "" && a.Environment == c.spec.Name {
		c.Fail(c.at.Get("after").Get("environment"), "spec.after.environment is the environment itself", "")
	}
}

func (c *checker) notItself(key string, names []string) {
	list, first := c.at.Get(key), map[string]int{}
	for i, name := range names {
		n, what := list.Values[i], fmt.Sprintf("spec.%s[%d]", key, i)
		if name != "" && name == c.spec.Name {
			c.Fail(n, what+" is the environment itself", "")
		}
		c.once(n, what, name, first)
	}
}

func (c *checker) preview() {
	n, p := c.at.Get("preview"), c.spec.Preview
	if n == nil || p == nil {
		return
	}
	if list := n.Get("branches"); list != nil && list.Kind == yamldoc.List && len(list.Values) == 0 {
		c.Fail(list, "spec.preview.branches names no branch", `write patterns, such as ["feature/*"]`)
	}
	if c.at.Get("namespace") == nil && c.doc.kind == Kind {
		c.Fail(n, "spec.preview needs spec.namespace", "what a branch asks for has to stay in it, as in "+c.doc.name+"-${branchSlug}")
	}
	if ref := c.at.Get("source").Get("ref"); ref != nil {
		c.Fail(ref, "spec.source.ref is set in a preview, which follows its branches", "leave it out")
	}
	if f := c.at.Get("formerly"); f != nil {
		c.Fail(f, "spec.formerly is set in a preview, whose environments have names of their own", "leave it out")
	}
	if ns := c.written.Get("namespace"); ns != nil && !substitute.Refers(ns.Value) && c.at.Get("createNamespace") != nil {
		c.Fail(ns, "spec.namespace is the same for all previews, and each would create it", "put ${branchSlug} into it, as in "+strings.TrimSuffix(ns.Value, "-")+"-${branchSlug}")
	}
}
