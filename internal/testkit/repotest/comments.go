package repotest

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
)

// PackageComments finds packages, of every module, that do not say what they
// are.
func PackageComments(t Tree) []string {
	type pkg struct{ dir, name string }
	said := map[pkg]bool{}
	for _, f := range t.Go {
		name := strings.TrimSuffix(f.AST.Name.Name, "_test")
		p := pkg{f.Dir(), name}
		text := f.AST.Doc.Text()
		says := name == "main" && text != "" || strings.HasPrefix(text, "Package "+name+" ")
		said[p] = said[p] || says
	}
	var out []string
	for p, ok := range said {
		begin := "Package " + p.name
		if p.name == "main" {
			begin = "Command " + path.Base(p.dir)
		}
		if !ok {
			out = append(out, fmt.Sprintf("%s: package %s has no comment, as one that begins with %q", p.dir, p.name, begin))
		}
	}
	slices.Sort(out)
	return out
}

// Undocumented finds exported identifiers without a comment: functions, methods
// of exported types, types, and constants and variables, for which the comment
// of their group does.
func Undocumented(t Tree) []string {
	var out []string
	for _, f := range t.Go {
		if f.IsTest() || f.AST.Name.Name == "main" {
			continue
		}
		for _, decl := range f.AST.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) {
					out = append(out, fmt.Sprintf("%s: %s has no comment", f.at(d.Pos()), d.Name.Name))
				}
			case *ast.GenDecl:
				out = append(out, undocumentedSpecs(f, d)...)
			}
		}
	}
	return out
}

// exportedReceiver says whether a function is no method, or one that others can
// call by name.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch of := t.(type) {
		case *ast.StarExpr:
			t = of.X
		case *ast.IndexExpr:
			t = of.X
		case *ast.IndexListExpr:
			t = of.X
		case *ast.Ident:
			return of.IsExported()
		default:
			return false
		}
	}
}

func undocumentedSpecs(f GoFile, d *ast.GenDecl) []string {
	var out []string
	for _, spec := range d.Specs {
		var names []*ast.Ident
		documented := d.Doc != nil
		switch s := spec.(type) {
		case *ast.TypeSpec:
			// The comment of a group of types says nothing of any one of them.
			names, documented = []*ast.Ident{s.Name}, s.Doc != nil || d.Doc != nil && !d.Lparen.IsValid()
		case *ast.ValueSpec:
			names, documented = s.Names, documented || s.Doc != nil || s.Comment != nil
		}
		for _, name := range names {
			if name.IsExported() && !documented {
				out = append(out, fmt.Sprintf("%s: %s has no comment", f.at(name.Pos()), name.Name))
			}
		}
	}
	return out
}
