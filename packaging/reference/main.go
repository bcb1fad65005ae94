// Writes the documentation of the Go package in a directory as an HTML page. An exported
// name without a comment is an error.
package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/format"
	"go/parser"
	"go/token"
	"html"
	"os"
	"path/filepath"
	"strings"
)

const head = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Package dbss</title>
<style>
body { max-width: 55em; margin: auto; font-family: sans-serif }
pre { background: #eee; padding: 1em; overflow: auto }
</style>
<h1>Package dbss</h1>
`

var (
	files       = token.NewFileSet()
	pkg         *doc.Package
	index, body bytes.Buffer
	missing     []string
)

func main() {
	directory, out := os.Args[1], os.Args[2]
	found, err := build.ImportDir(directory, 0)
	check(err)
	var parsed []*ast.File
	for _, name := range append(found.GoFiles, found.CgoFiles...) {
		file, err := parser.ParseFile(files, filepath.Join(directory, name), nil, parser.ParseComments)
		check(err)
		parsed = append(parsed, file)
	}
	pkg, err = doc.NewFromFiles(files, parsed, "example.com/dbss")
	check(err)
	opening := text(pkg.Doc)
	members(pkg.Consts, pkg.Vars, pkg.Funcs)
	for _, one := range pkg.Types {
		section("h2", "type ", []string{one.Name}, one.Doc, one.Decl)
		members(one.Consts, one.Vars, append(one.Funcs, one.Methods...))
	}
	if len(missing) > 0 {
		check(fmt.Errorf("without a comment: %s", strings.Join(missing, ", ")))
	}
	check(os.MkdirAll(filepath.Dir(out), 0o777))
	page := fmt.Sprintf("%s%s<ul>\n%s</ul>\n%s</html>\n", head, opening, &index, &body)
	check(os.WriteFile(out, []byte(page), 0o666))
}

func members(constants, variables []*doc.Value, functions []*doc.Func) {
	for _, one := range append(constants, variables...) {
		section("h3", "", one.Names, one.Doc, one.Decl)
	}
	for _, one := range functions {
		name := one.Name
		if receiver, _, _ := strings.Cut(strings.TrimPrefix(one.Recv, "*"), "["); receiver != "" {
			name = receiver + "." + name
		}
		section("h3", "func ", []string{name}, one.Doc, one.Decl)
	}
}

func section(heading, kind string, names []string, comment string, declaration ast.Decl) {
	fmt.Fprintf(&body, "<%s>", heading)
	for _, name := range names {
		fmt.Fprintf(&index, "<li><a href=\"#%s\">%s%[1]s</a></li>\n", name, kind)
		fmt.Fprintf(&body, "<span id=\"%s\">%s%[1]s</span> ", name, kind)
	}
	var code bytes.Buffer
	check(format.Node(&code, files, declaration))
	fmt.Fprintf(&body, "</%s>\n<pre>%s</pre>\n%s", heading, html.EscapeString(code.String()), text(comment))
	if comment == "" {
		missing = append(missing, names[0])
	}
	ast.Inspect(declaration, func(node ast.Node) bool {
		switch one := node.(type) {
		case *ast.ValueSpec:
			if len(names) > 1 && one.Doc == nil && one.Comment == nil {
				missing = append(missing, one.Names[0].Name)
			}
		case *ast.StructType:
			for _, field := range one.Fields.List {
				if len(field.Names) > 0 && field.Doc == nil && field.Comment == nil {
					missing = append(missing, names[0]+"."+field.Names[0].Name)
				}
			}
		}
		return true
	})
}

func text(comment string) []byte {
	printer := pkg.Printer()
	printer.DocLinkBaseURL = "https://pkg.go.dev"
	return printer.HTML(pkg.Parser().Parse(comment))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
