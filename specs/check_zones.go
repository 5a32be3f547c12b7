package specs

// checkZones finds what is wrong with zone blocks.
func (l *loader) checkZones(b *built) {
	hosts, known := b.hostNames()
	for _, z := range b.zones {
		for i, w := range z.n.blocks["web"] {
			if known && !w.values["host"].bad {
				z.Web[i].Host = l.settleHost(w, z.Web[i].Host, fullName(z.Web[i].Name, z.Name), hosts)
			}
		}
	}
}

// fullName is a web name with its zone.
func fullName(name, zone string) string {
	if name == "@" {
		return zone
	}
	return name + "." + zone
}
