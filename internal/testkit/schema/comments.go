package schema

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

// Comments are those of types ("Spec") and fields ("Spec.Path"), and the values
// of text constants ("=ModeApply"), which comments name.
type Comments map[string]string

// ReadComments takes them from the Go files of folders.
func ReadComments(dirs ...string) (Comments, error) {
	out := Comments{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			if err := out.read(file, text); err != nil {
				return nil, fmt.Errorf("read comments: %w", err)
			}
		}
	}
	return out, nil
}

func (c Comments) read(file string, text []byte) error {
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, file, text, parser.ParseComments)
	if err != nil {
		return err
	}
	for _, decl := range parsed.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if ok && gen.Tok == token.CONST {
			c.constants(gen)
		}
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, s := range gen.Specs {
			spec := s.(*ast.TypeSpec)
			c[spec.Name.Name] = oneLine(gen.Doc)
			if st, ok := spec.Type.(*ast.StructType); ok {
				c.fields(fset, spec.Name.Name, st)
			}
		}
	}
	return nil
}

func (c Comments) constants(gen *ast.GenDecl) {
	for _, s := range gen.Specs {
		spec := s.(*ast.ValueSpec)
		for i, name := range spec.Names {
			if i >= len(spec.Values) {
				continue
			}
			if lit, ok := spec.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				c["="+name.Name] = strings.Trim(lit.Value, "\"`")
			}
		}
	}
}

// fields takes the comment of each field; one without, that stands right below
// another, shares its comment.
func (c Comments) fields(fset *token.FileSet, name string, st *ast.StructType) {
	last, text := 0, ""
	for _, f := range st.Fields.List {
		line := fset.Position(f.Pos()).Line
		switch {
		case f.Doc != nil:
			text = oneLine(f.Doc)
		case line != last+1:
			text = ""
		}
		last = fset.Position(f.End()).Line
		for _, n := range f.Names {
			c[name+"."+n.Name] = text
		}
	}
}

func oneLine(doc *ast.CommentGroup) string {
	if doc == nil {
		return ""
	}
	return strings.Join(strings.Fields(doc.Text()), " ")
}

func (c Comments) typ(t reflect.Type) string { return c.told(t, c[t.Name()]) }

var word = regexp.MustCompile(`\b[A-Z][A-Za-z]+\b:?`)

// told is a comment in the words of who writes the file: keys for fields, and
// values for constants.
func (c Comments) told(t reflect.Type, text string) string {
	keys := map[string]string{}
	for _, f := range yamldoc.Fields(t) {
		keys[f.Name] = f.Key
	}
	return word.ReplaceAllStringFunc(text, func(w string) string {
		if value, ok := c["="+strings.TrimSuffix(w, ":")]; ok {
			return value + w[len(strings.TrimSuffix(w, ":")):]
		}
		if key, ok := keys[w]; ok {
			return key
		}
		return w
	})
}

func (c Comments) field(t reflect.Type, f yamldoc.StructField) string {
	for _, i := range f.Index[:len(f.Index)-1] {
		t = t.Field(i).Type
	}
	return c.told(t, c[t.Name()+"."+f.Name])
}
