package specs

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty/function"
)

// LoadOptions brings everything Load needs from outside.
type LoadOptions struct {
	// Dir is the stack's folder. File names in ranges begin with it, as it is written here.
	Dir string
	// ReadDir lists a folder and Open opens a file; os.ReadDir and os.Open fit.
	ReadDir func(dir string) ([]fs.DirEntry, error)
	Open    func(name string) (fs.File, error)
	// Home is what ~ stands for in file("~/…"); "" makes that an error.
	Home string
	// Environ holds NAME=VALUE pairs; only MAILFORM_VAR_* are looked at.
	Environ []string
	// Vars are the NAME=VALUE arguments of --var, in order.
	Vars []string
	// VarFiles are the arguments of --var-file, in order: HCL or, ending in .json, JSON.
	VarFiles []string
}

// Load reads a stack's spec. The Spec is nil exactly when the findings contain
// an error. Every finding is reported at once, in source order; Sources is never
// nil and shows their places. Load never panics, whatever the files hold.
func Load(o LoadOptions) (spec *Spec, src *Sources, found Diagnostics) {
	l := newLoader(o)
	defer func() {
		// A last line of defence around the libraries that evaluate the spec.
		if r := recover(); r != nil {
			l.add(Diagnostic{Severity: SeverityError, Code: codeInternal, Summary: "mailform failed on this spec",
				Detail: fmt.Sprintf("This is a bug in mailform; please report it with the spec that shows it. (%T)", r)})
			spec, src, found = nil, l.src, l.done()
		}
	}()
	s := l.load()
	ds := l.done()
	if ds.HasErrors() {
		s = nil
	}
	return s, l.src, ds
}

// loader is the state of one Load.
type loader struct {
	collector
	o     LoadOptions
	src   *Sources
	files reader
	root  *blockSchema
	funcs map[string]function.Function

	templates map[string]hclsyntax.Expression // parsed, by file name

	bodies    []*hclsyntax.Body
	variables map[string]*variable
	varOrder  []*variable
	locals    map[string]*named
	exports   exports
	made      map[string]bool // types of blocks that dynamic blocks make beside the exporting ones
	ctx       *hcl.EvalContext
}

func newLoader(o LoadOptions) *loader {
	if o.Dir == "" {
		o.Dir = "."
	}
	l := &loader{o: o, src: NewSources(), root: rootSchema(), variables: map[string]*variable{}, locals: map[string]*named{}, exports: exports{}, made: map[string]bool{}, templates: map[string]hclsyntax.Expression{}}
	l.files = reader{open: o.Open, left: maxTotalBytes, cache: map[string][]byte{}}
	l.funcs = l.functions()
	return l
}

// resolve turns a path that stands in a spec into one that Open understands.
func (l *loader) resolve(p string) string {
	switch {
	case p == "~" || strings.HasPrefix(p, "~/"):
		return path.Join(l.o.Home, strings.TrimPrefix(p, "~"))
	case path.IsAbs(p):
		return path.Clean(p)
	}
	return path.Join(l.o.Dir, p)
}

func (l *loader) load() *Spec {
	if !l.parseFiles() {
		return nil
	}
	l.declare()
	for _, b := range l.bodies {
		l.checkBody(b, l.root, hcl.Range{}, scope{})
	}
	l.evalVariables()
	l.evalNamed()
	return l.build(l.decodeRoot())
}

// parseFiles reads and parses every file. After a syntax error nothing else is
// looked at: what the parser makes of the rest is guesswork.
func (l *loader) parseFiles() bool {
	var entries []fs.DirEntry
	err := fs.ErrNotExist
	if l.o.ReadDir != nil {
		entries, err = l.o.ReadDir(l.o.Dir)
	}
	if err != nil {
		l.add(Diagnostic{Severity: SeverityError, Code: codeUnreadable, Summary: fmt.Sprintf("cannot read the folder %s", l.o.Dir), Detail: capital(plainError(err).Error()) + "."})
		return false
	}
	names := specFiles(entries, l.o.Dir, l.o.VarFiles)
	switch {
	case len(names) == 0:
		l.add(Diagnostic{Severity: SeverityError, Code: codeNoSpec, Summary: fmt.Sprintf("no spec in %s", l.o.Dir),
			Detail: "The folder holds no *.hcl file. Name the folder that does as the last argument, or write a starter spec with: mailform init DOMAIN"})
		return false
	case len(names) > maxSpecFiles:
		l.add(Diagnostic{Severity: SeverityError, Code: codeTooLarge, Summary: "too many files",
			Detail: fmt.Sprintf("%s holds %d *.hcl files; %d are allowed.", l.o.Dir, len(names), maxSpecFiles)})
		return false
	}
	special := map[string]bool{} // pipes, sockets and devices, whose reading may never end
	for _, e := range entries {
		if t := e.Type(); !t.IsRegular() && t&fs.ModeSymlink == 0 {
			special[path.Join(l.o.Dir, e.Name())] = true
		}
	}
	ok := true
	for _, n := range names {
		if special[n] {
			l.add(fileFinding(n, errors.New("it is not a regular file")))
			ok = false
			continue
		}
		text, err := l.files.read(n)
		if err != nil {
			l.add(fileFinding(n, err))
			ok = false
			continue
		}
		l.src.Add(n, text)
		body := l.parse(n, text)
		if body == nil {
			ok = false
			continue
		}
		l.bodies = append(l.bodies, body)
	}
	return ok
}

func (l *loader) parse(name string, text []byte) *hclsyntax.Body {
	if d := tooComplex(name, text); d != nil {
		l.add(*d)
		return nil
	}
	f, ds := hclsyntax.ParseConfig(text, name, hcl.InitialPos)
	l.hcl(ds, codeSyntax, hcl.Range{})
	if ds.HasErrors() {
		return nil
	}
	return f.Body.(*hclsyntax.Body)
}

func fileFinding(name string, err error) Diagnostic {
	if errors.Is(err, errTooLarge) {
		return Diagnostic{Severity: SeverityError, Code: codeTooLarge, Summary: name + " is too large", Detail: tooLargeText}
	}
	return Diagnostic{Severity: SeverityError, Code: codeUnreadable, Summary: "cannot read " + name, Detail: capital(err.Error()) + "."}
}

var tooLargeText = fmt.Sprintf("A file may have %s, all files that a spec reads together %s.", formatSize(maxFileBytes), formatSize(maxTotalBytes))
