package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// added is the domain that a change set brings.
const added = "change.example"

// changeSpec writes a spec like the one in a folder, with changes of many kinds: a
// mailbox and an alias come, others go, SPF and DMARC get other policies, a port
// is opened, a domain is added. Of the things that go, those do which the rest of
// the spec does not need.
func changeSpec(from, to string) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(to, "*.hcl"))
	if err != nil {
		return err
	}
	domains, hosts, on := 0, 0, ""
	for _, name := range files {
		err := edit(name, func(body *hclwrite.Body) {
			for _, b := range body.Blocks() {
				switch b.Type() {
				case "domain":
					if domains++; domains == 1 {
						changeDomain(b.Body())
					}
				case "host":
					if hosts++; hosts == 1 {
						on = b.Labels()[0]
						changeHost(b.Body())
					}
				}
			}
		})
		if err != nil {
			return err
		}
	}
	if domains == 0 || hosts == 0 {
		return fmt.Errorf("%s: %d domains, %d hosts: what is there to change?", from, domains, hosts)
	}
	extra := fmt.Sprintf("domain %q {\n  host = %q\n  mailbox \"first\" {}\n}\n", added, on)
	if err := os.WriteFile(filepath.Join(to, "added.hcl"), []byte(extra), 0o644); err != nil {
		return err
	}
	if _, err := specOf(to); err != nil {
		return err
	}
	gone := 0
	for _, kind := range []string{"alias", "mailbox"} {
		for _, name := range files {
			n, err := removeLast(to, name, kind)
			if err != nil {
				return err
			}
			gone += n
		}
	}
	tables, err := filepath.Glob(filepath.Join(to, "*.csv"))
	if err != nil {
		return err
	}
	for _, name := range tables {
		n, err := tryEdit(to, name, func(text []byte) []byte {
			lines := slices.Collect(strings.Lines(string(text)))
			return []byte(strings.Join(lines[:len(lines)-1], ""))
		})
		if err != nil {
			return err
		}
		gone += n
	}
	if gone < 2 {
		return fmt.Errorf("%s: only %d things could be taken away", from, gone)
	}
	return nil
}

func changeDomain(b *hclwrite.Body) {
	only(b, "spf").SetAttributeValue("all", cty.StringVal("softfail"))
	policy := "reject"
	dmarc := only(b, "dmarc")
	if a := dmarc.GetAttribute("policy"); a != nil && strings.Contains(string(a.Expr().BuildTokens(nil).Bytes()), policy) {
		policy = "quarantine"
	}
	dmarc.SetAttributeValue("policy", cty.StringVal(policy))
	b.AppendNewBlock("mailbox", []string{"newcomer"}).Body().SetAttributeValue("quota", cty.StringVal("1GiB"))
	b.AppendNewBlock("alias", []string{"newcomers"}).Body().SetAttributeValue("to", cty.ListVal([]cty.Value{cty.StringVal("newcomer")}))
}

func changeHost(b *hclwrite.Body) {
	allow := b.AppendNewBlock("allow", []string{"metrics"}).Body()
	allow.SetAttributeValue("port", cty.NumberIntVal(9100))
	allow.SetAttributeValue("from", cty.ListVal([]cty.Value{cty.StringVal("203.0.113.0/24")}))
}

// only is a block's only block of a kind.
func only(b *hclwrite.Body, kind string) *hclwrite.Body {
	if found := b.FirstMatchingBlock(kind, nil); found != nil {
		return found.Body()
	}
	return b.AppendNewBlock(kind, nil).Body()
}

// edit rewrites a spec's file.
func edit(name string, change func(*hclwrite.Body)) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	f, diags := hclwrite.ParseConfig(text, name, hcl.InitialPos)
	if diags.HasErrors() {
		return diags
	}
	change(f.Body())
	return os.WriteFile(name, f.Bytes(), 0o644)
}

// removeLast takes the last block of a kind that can be missed out of a domain.
func removeLast(dir, name, kind string) (int, error) {
	for skip := 0; ; skip++ {
		found := false
		n, err := tryEdit(dir, name, func(text []byte) []byte {
			f, diags := hclwrite.ParseConfig(text, name, hcl.InitialPos)
			if diags.HasErrors() {
				return text
			}
			nth := 0
			for _, d := range slices.Backward(f.Body().Blocks()) {
				for _, b := range slices.Backward(d.Body().Blocks()) {
					if b.Type() != kind || strings.HasPrefix(strings.Join(b.Labels(), ""), "newcomer") {
						continue
					}
					if nth++; nth > skip && !found {
						found = true
						d.Body().RemoveBlock(b)
					}
				}
			}
			return f.Bytes()
		})
		if n > 0 || err != nil || !found {
			return n, err
		}
	}
}

// tryEdit changes a file and takes that back when the spec is wrong then. It
// returns how many edits stayed.
func tryEdit(dir, name string, change func([]byte) []byte) (int, error) {
	before, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	after := change(before)
	if string(after) == string(before) {
		return 0, nil
	}
	if err := os.WriteFile(name, after, 0o644); err != nil {
		return 0, err
	}
	if _, err := specOf(dir); err != nil {
		return 0, os.WriteFile(name, before, 0o644)
	}
	return 1, nil
}
