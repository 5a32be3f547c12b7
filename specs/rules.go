package specs

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// rulePrefix begins the codes of rules: findings that are advice, whose severity
// the spec may change. All others tell of what could not be applied.
const rulePrefix = "MF15"

// severityIgnore drops a rule's findings; it is a severity in specs only.
const severityIgnore Severity = "ignore"

// rulesSchema has an attribute for each rule.
func rulesSchema() *blockSchema {
	s := &blockSchema{
		Name: "rules",
		Doc: "How seriously advice is taken, by its code: \"error\" stops every command, \"ignore\" says nothing. " +
			"Other findings tell of what could not be applied or would break mail, and cannot be changed.",
		Example: "rules {\n  MF1501 = \"ignore\" # SSH is open on purpose\n  MF1502 = \"error\"\n}",
	}
	for _, c := range Codes() {
		if strings.HasPrefix(c.Code, rulePrefix) {
			s.Attrs = append(s.Attrs, attrSchema{Name: c.Code, Kind: kindString, Default: text(string(SeverityWarning)),
				Choices: []string{string(SeverityError), string(SeverityWarning), string(severityIgnore)}, Doc: c.Meaning})
		}
	}
	return s
}

// applyRules makes the collector judge by what the spec says of its rules.
func (l *loader) applyRules(root *node) {
	n, _ := root.one("rules")
	l.severity = map[string]Severity{}
	for _, a := range n.schema.Attrs {
		if s := get[string](n, a.Name); s != "" {
			l.severity[a.Name] = Severity(s)
		}
	}
}

// fixedRule explains why a code is no attribute of the rules block; "" when it
// is no code at all.
func fixedRule(a *hclsyntax.Attribute) string {
	for _, c := range Codes() {
		if c.Code == a.Name {
			return fmt.Sprintf("%s cannot be changed: %s Only rules, whose codes begin with %s, can.", c.Code, c.Meaning, rulePrefix)
		}
	}
	return ""
}
