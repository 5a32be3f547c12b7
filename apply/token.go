package apply

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"slices"

	"mailform/plan"
)

// tokenAlphabet is RFC 4648 base32 in lower case: 32 bytes become 52 letters and digits.
var tokenAlphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Token derives the idempotency token of one operation from its intent alone:
// the stack, the provider, the kind of operation, the addresses and the resolved
// inputs, with the generation. Any machine that wants the same thing sends the
// same token, so a lost answer or a lost laptop cannot make a second instance.
// The generation tells a second wish for the same thing from the first. The
// result is 56 characters of ASCII; Alibaba Cloud allows 64.
func Token(stack string, op plan.Op, generation int) plan.Token {
	addresses := slices.Clone(op.Addresses)
	slices.Sort(addresses)
	intent := struct {
		Format     string
		Stack      string
		Provider   string
		Kind       string
		Addresses  []plan.Address
		Inputs     plan.Attrs
		Generation int
	}{"mailform-token-1", stack, op.Provider, op.Kind, addresses, op.Inputs, generation}
	// Struct fields have a fixed order, map keys are sorted, and a plan.Value has
	// one JSON form, so equal intents have equal bytes.
	canonical, err := json.Marshal(intent)
	if err != nil {
		panic("apply: a plan value has no JSON form: " + err.Error()) // impossible: every kind of Value marshals
	}
	sum := sha256.Sum256(canonical)
	return plan.Token("mf1-" + tokenAlphabet.EncodeToString(sum[:]))
}
