package specs

import (
	"fmt"
	"strings"
	"testing"
)

// Text made to exhaust the stack or the memory of the parser or the evaluator
// ends in findings. Without the limits each of these kills the process.
func TestHostileSpecs(t *testing.T) {
	const n = 50_000
	chain := func() string {
		var b strings.Builder
		b.WriteString("locals {\n  l0 = 1\n")
		for i := 1; i < 20_000; i++ {
			fmt.Fprintf(&b, "  l%d = local.l%d\n", i, i-1)
		}
		return b.String() + "}\n"
	}
	for name, text := range map[string]string{
		"blocks":           strings.Repeat("a {\n", n),
		"lists":            "a = " + strings.Repeat("[", n),
		"objects":          "a = " + strings.Repeat("{ b = ", n),
		"parentheses":      "a = " + strings.Repeat("(", n) + "1" + strings.Repeat(")", n),
		"calls":            "a = " + strings.Repeat("f(", n),
		"indexes":          "a = b" + strings.Repeat("[c]", n),
		"attributes":       "a = b" + strings.Repeat(".c", n),
		"splats":           "a = b" + strings.Repeat("[*]", n),
		"minus":            "a = " + strings.Repeat("-", n) + "1",
		"not":              "a = " + strings.Repeat("!", n) + "true",
		"sum":              "locals { a = 1" + strings.Repeat(" + 1", n) + " }",
		"sum over lines":   "locals { a = (1" + strings.Repeat("\n + 1", n) + ") }",
		"sum in for":       "locals { a = { for x in [1] : x => 1" + strings.Repeat("\n + 1", n) + "} }",
		"sum with remarks": "locals { a = [1" + strings.Repeat(" # x\n + 1", n) + "] }",
		"conditions":       "a = " + strings.Repeat("true ? 1 : ", n) + "1",
		"templates":        "a = " + strings.Repeat("\"${", n),
		"directives":       "a = \"" + strings.Repeat("%{ if true }", n) + "\"",
		"heredocs":         strings.Repeat("a = <<E\n${", n),
		"dollars":          "a = \"" + strings.Repeat("$", 200_000) + "\"",
		"long heredoc":     "a = <<E\n" + strings.Repeat("one line of a text\n", 100_000) + "E\n",
		"strings":          "a = \"" + strings.Repeat("${1}", n) + "\"",
		"types":            "variable \"a\" {\n  type = " + strings.Repeat("list(", n) + "}\n",
		"lines":            strings.Repeat("\n", 8<<20-1),
		"words":            strings.Repeat("a ", 4<<20-1),
		"locals forwards":  base + chain(),
		"json":             base + "locals { a = jsondecode(file(\"deep.json\")) }\n",
		"width":            base + "locals { a = format(\"%-0999999999d\", 1) }\n",
		"indent":           base + "locals { a = indent(999999999999, \"a\\nb\") }\n",
		"product":          base + "locals { a = setproduct(range(1000), range(1000), range(1000)) }\n",
		"number":           base + "locals { a = \"${1e600000000}\" }\n",
		"infinite":         base + "locals { a = \"${1e9999999999}\" }\n",
		"replace":          base + "locals { a = replace(join(\"\", [for i in range(1000) : \"aaaaaaaaaa\"]), \"a\", join(\"\", [for i in range(1000) : \"aaaaaaaaaa\"])) }\n",
	} {
		t.Run(name, func(t *testing.T) {
			o := files{"stack/main.hcl": text, "stack/deep.json": strings.Repeat("[", 1<<20)}.options()
			s, _, ds := Load(o)
			for _, d := range ds {
				if d.Code == codeInternal {
					t.Error(d)
				}
			}
			if strings.HasPrefix(name, "locals") != (s != nil) {
				t.Errorf("spec %v, first finding %v", s != nil, ds[:min(1, len(ds))])
			}
		})
	}
}
