package specs

import (
	"fmt"
	"math/big"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Limits that keep parser and evaluator, which recurse, within their stack and
// memory. No spec a person or a generator writes comes near them.
const (
	maxNesting  = 100      // brackets, blocks and templates inside each other
	maxChain    = 500      // operators, dots and brackets in one expression
	maxTokens   = 2 << 20  // tokens of one file, each of which costs 100 bytes
	maxValue    = 32 << 20 // bytes of one value
	maxExponent = 4096     // binary exponent of a number
	// The parser joins the pieces of a text, such as the lines of a heredoc, one by
	// one, which costs the square of their number: bytes copied in one file.
	maxJoining = 512 << 20
	pieceCost  = 16 // bytes that move for each piece beside its text
)

// tooComplex looks at a file's tokens before they are parsed.
func tooComplex(name string, text []byte) *Diagnostic {
	if estimateTokens(text) > maxTokens {
		return &Diagnostic{Severity: SeverityError, Code: codeTooComplex, Summary: name + " has too many symbols",
			Detail: "Keep data out of *.hcl files: read it with csvdecode(file(…)) or jsondecode(file(…))."}
	}
	tokens, _ := hclsyntax.LexConfig(text, name, hcl.InitialPos)
	return tooDeep(tokens, level{lines: true})
}

// templateTooComplex looks at a template file's tokens before they are parsed.
func templateTooComplex(name string, text []byte) *Diagnostic {
	if estimateTokens(text) > maxTokens {
		return &Diagnostic{Severity: SeverityError, Code: codeTooComplex, Summary: "it has too many symbols", Detail: "Split it."}
	}
	tokens, _ := hclsyntax.LexTemplate(text, name, hcl.InitialPos)
	return tooDeep(tokens, level{text: true})
}

// tooDeep refuses tokens that would make parser and evaluator recurse too deeply.
func tooDeep(tokens hclsyntax.Tokens, outermost level) *Diagnostic {
	levels := []level{outermost}
	joining := 0
	for i, t := range tokens {
		top := &levels[len(levels)-1]
		switch t.Type {
		case hclsyntax.TokenOBrace:
			top.chain++
			levels = append(levels, level{lines: !startsFor(tokens[i+1:])})
		case hclsyntax.TokenOParen, hclsyntax.TokenOBrack, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp:
			if !top.text {
				top.chain++
			}
			levels = append(levels, level{})
		case hclsyntax.TokenTemplateControl:
			top.chain += 4 // may open a level of the template, which has no bracket
			levels = append(levels, level{})
		case hclsyntax.TokenCBrace, hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCQuote,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			if len(levels) > 1 {
				levels = levels[:len(levels)-1]
			}
		case hclsyntax.TokenComma:
			top.chain = 0
		case hclsyntax.TokenNewline, hclsyntax.TokenComment:
			if top.lines && len(t.Bytes) > 0 && t.Bytes[len(t.Bytes)-1] == '\n' {
				top.chain = 0
			}
		case hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit:
			joining += top.joined
			top.joined += len(t.Bytes) + pieceCost
			if joining > maxJoining {
				return &Diagnostic{Severity: SeverityError, Code: codeTooComplex, Summary: "this text has too many pieces", Subject: place(t.Range),
					Detail: "Lines, and signs like $ and %, are pieces. Keep long texts in files of their own: file(\"text.txt\")."}
			}
		case hclsyntax.TokenIdent, hclsyntax.TokenNumberLit, hclsyntax.TokenEqual, hclsyntax.TokenEOF:
		default:
			top.chain++
		}
		if len(levels) > maxNesting || top.chain > maxChain {
			return &Diagnostic{Severity: SeverityError, Code: codeTooComplex, Summary: "this is nested or chained too deeply", Subject: place(t.Range),
				Detail: fmt.Sprintf("An expression may have %d levels of brackets and %d operators on a level. Split it with locals.", maxNesting, maxChain)}
		}
	}
	return nil
}

// level is one pair of brackets that is open.
type level struct {
	chain  int  // operators of the current expression
	lines  bool // a line's end ends an expression here
	joined int  // bytes and costs of the pieces of text so far
	text   bool // a template file's own text, where one ${…} after the other makes no depth
}

// startsFor reports whether a brace opens a for expression, in which lines do not matter.
func startsFor(tokens hclsyntax.Tokens) bool {
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenNewline, hclsyntax.TokenComment:
		default:
			return t.Type == hclsyntax.TokenIdent && string(t.Bytes) == "for"
		}
	}
	return false
}

// estimateTokens counts punctuation and beginnings of words, without the cost of lexing.
func estimateTokens(text []byte) int {
	n, inWord := 0, false
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_' || c >= 0x80:
			if !inWord {
				n++
			}
			inWord = true
			continue
		case c != ' ' && c != '\t':
			n++
		}
		inWord = false
	}
	return n
}

// jsonTooDeep reports whether JSON text nests deeper than maxNesting.
func jsonTooDeep(text []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			if depth++; depth > maxNesting {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}

// oversized reports whether a value holds more than maxValue bytes of text and
// structure, or a number too large to be printed.
func oversized(v cty.Value) bool {
	budget := maxValue
	return spend(v, &budget)
}

func spend(v cty.Value, budget *int) bool {
	v, _ = v.Unmark()
	if *budget -= 16; *budget < 0 {
		return true
	}
	if v == cty.NilVal || v.IsNull() || !v.IsKnown() {
		return false
	}
	switch ty := v.Type(); {
	case ty == cty.String:
		*budget -= len(v.AsString())
	case ty == cty.Number:
		return hugeNumber(v.AsBigFloat())
	case v.CanIterateElements():
		for it := v.ElementIterator(); it.Next(); {
			_, e := it.Element()
			if spend(e, budget) {
				return true
			}
		}
	}
	return *budget < 0
}

func hugeNumber(f *big.Float) bool {
	e := f.MantExp(nil)
	return f.IsInf() || e > maxExponent || e < -maxExponent
}
