package plan

import (
	"fmt"
	"slices"
)

// keepNames blocks what would stop to answer for a name that stays in DNS because
// its deletion is blocked: whoever followed it would find nobody, or a certificate
// of others.
func (b *builder) keepNames() {
	for _, n := range b.nodes {
		if n.addr.Kind() != "dns" || n.change.Action != Delete || n.change.Blocked == nil {
			continue
		}
		for _, d := range b.nodes {
			if kind := d.addr.Kind(); (kind == "server" || kind == "cert") && d.change.Blocked == nil && d.dropsName(n) {
				d.block(fmt.Sprintf("%s stays and leads to it", n.addr), n)
			}
		}
	}
}

// dropsName reports whether a server or a certificate is to give up what the name of
// a DNS record needs: the name in its list, its domain, or something of its domain
// that is turned off.
func (n *node) dropsName(record *node) bool {
	if n.change.Action != Update && n.change.Action != Replace {
		return false
	}
	if name := record.have.Attrs["name"].Str(); slices.ContainsFunc(n.change.Fields, func(f Field) bool {
		return slices.Contains(f.Before.Texts(), name) && !slices.Contains(f.After.Texts(), name)
	}) {
		return true
	}
	domain := record.addr.Segments()[1]
	before, after := n.change.Before["domains"].Field(domain), n.change.After["domains"].Field(domain)
	if before.IsNull() || after.IsNull() {
		return !before.IsNull()
	}
	return slices.ContainsFunc(before.FieldNames(), func(part string) bool {
		was, is := before.Field(part), after.Field(part)
		return was.True() && !is.True() || was.Kind() == KindObject && is.IsNull()
	})
}
