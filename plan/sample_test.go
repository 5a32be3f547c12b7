package plan

import (
	"fmt"
	"strings"

	"mailform/specs"
)

// The sample is a small team's whole mail system, shaped like the real
// providers shape it, for the renderers and the table tests.

const (
	canary  = "correct horse battery staple" // a secret that must appear nowhere
	dkimTXT = "v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu0fTOYxXYGVDVKjnUDOFgWkqJpm1iPqZ5v8SmDXS6v0e7KkqKkHqfWhnq2eTa1yXn1wIDAQAB"
)

// relayPassword is made once: it takes its time.
var relayPassword = Secret(specs.Fingerprint(canary))

func rule(name, ports, source string) Value {
	return Map(map[string]Value{"name": String(name), "protocol": String("tcp"), "ports": String(ports), "source": String(source)})
}

func sampleDesired(mailboxes ...string) []Resource {
	d := "acme.example"
	record := func(slot, typ string, content Value, effect string, deps ...Address) Resource {
		return Resource{Address: Addr("dns", d, slot), Provider: "cloudflare", Kind: "record", Effect: effect,
			Attrs: Attrs{"name": String(d), "type": String(typ), "content": content, "ttl": Int(300),
				"zone": Unknown(Addr("zone", d), "id")},
			ReplaceOn: []string{"type"}, DependsOn: deps}
	}
	rs := []Resource{
		{Address: "host/mx1/network", Provider: "alicloud", Kind: "vpc", Attrs: Attrs{"cidr": String("10.80.0.0/16")}, Outputs: []string{"id"}},
		{Address: "host/mx1/subnet", Provider: "alicloud", Kind: "vswitch", Outputs: []string{"id", "zone"}, ReplaceOn: []string{"cidr", "network"},
			Attrs: Attrs{"cidr": String("10.80.0.0/24"), "zone": String("cn-hongkong-b"), "network": Unknown("host/mx1/network", "id")}},
		{Address: "host/mx1/firewall", Provider: "alicloud", Kind: "security-group", Outputs: []string{"id"}, ReplaceOn: []string{"network"},
			Attrs: Attrs{"network": Unknown("host/mx1/network", "id"), "rules": List(
				rule("imaps", "993/993", "0.0.0.0/0"), rule("smtp", "25/25", "0.0.0.0/0"), rule("ssh", "22/22", "198.51.100.0/24"),
				rule("submissions", "465/465", "0.0.0.0/0"))}},
		{Address: "host/mx1/instance", Provider: "alicloud", Kind: "instance", Outputs: []string{"id", "host_key"},
			Attrs: Attrs{"type": String("ecs.g7.large"), "image": String("debian-12"), "zone": String("cn-hongkong-b"),
				"disk":   Map(map[string]Value{"category": String("cloud_essd"), "size": Int(40)}),
				"subnet": Unknown("host/mx1/subnet", "id"), "firewall": Unknown("host/mx1/firewall", "id")},
			CreateOnly: []string{"image"}, ReplaceOn: []string{"zone", "subnet"},
			Protected: "it holds the mail of acme.example", Interrupts: "mail stops for about 2 min while the instance restarts"},
		{Address: "host/mx1/address", Provider: "alicloud", Kind: "eip", Attrs: Attrs{"bandwidth": Int(10)}, Outputs: []string{"id", "ip"},
			Protected: "other servers know mx1 by this address"},
		{Address: "host/mx1/address-link", Provider: "alicloud", Kind: "eip-association", Outputs: []string{"ip"}, ReplaceOn: []string{"instance", "address"},
			Attrs: Attrs{"instance": Unknown("host/mx1/instance", "id"), "address": Unknown("host/mx1/address", "id")}},
		{Address: "host/mx1/agent", Provider: "host", Kind: "agent", Attrs: Attrs{"version": String("1.0.0"), "host_key": Unknown("host/mx1/instance", "host_key")},
			DependsOn: []Address{"host/mx1/address-link", "host/mx1/firewall"}, Within: "host/mx1/instance", Outputs: []string{"arch"}},
		{Address: "cert/mx1", Provider: "acme", Kind: "certificate", Attrs: Attrs{"names": Strings("mail.acme.example"), "key": String("ecdsa256")},
			DependsOn: []Address{"host/mx1/agent", "zone/acme.example"}, Within: "host/mx1/instance", Outputs: []string{"not_after"}},
		{Address: "dkim/acme.example/mf1-rsa", Provider: "host", Kind: "dkim-key", Attrs: Attrs{"algorithm": String("rsa2048")},
			DependsOn: []Address{"host/mx1/agent"}, Within: "host/mx1/instance", Outputs: []string{"txt"}},
		{Address: "server/mx1", Provider: "host", Kind: "server", Outputs: []string{"ready"}, Effect: "mx1 serves SMTP and IMAP",
			Attrs: Attrs{"hostname": String("mail.acme.example"), "relay": Map(map[string]Value{
				"host": String("smtp.relay.example"), "password": relayPassword})},
			DependsOn: []Address{"host/mx1/agent", "cert/mx1", "dkim/acme.example/mf1-rsa"}, Within: "host/mx1/instance"},
		{Address: "zone/acme.example", Provider: "cloudflare", Kind: "zone", Attrs: Attrs{"name": String(d)}, Lookup: true, Outputs: []string{"id", "name"}},
		record("a/mx1", "A", Unknown("host/mx1/address-link", "ip"), ""),
		record("mx", "MX", String("mail.acme.example"), "mail for acme.example reaches mx1", "server/mx1", "dns/acme.example/a/mx1"),
		record("spf", "TXT", String("v=spf1 mx include:spf.crm.example -all"), ""),
		record("dmarc", "TXT", String("v=DMARC1; p=reject; rua=mailto:postmaster@acme.example"), ""),
		record("dkim/mf1-rsa", "TXT", Unknown("dkim/acme.example/mf1-rsa", "txt"), "receivers can verify what mx1 signs"),
	}
	for i := range rs {
		if rs[i].Address == "dns/acme.example/mx" {
			rs[i].Attrs["priority"] = Int(10)
			rs[i].Protected = "acme.example has mailboxes"
		}
	}
	for _, m := range mailboxes {
		rs = append(rs, Resource{Address: Addr("mailbox", m+"@"+d), Provider: "host", Kind: "mailbox",
			Attrs:     Attrs{"name": String(strings.ToUpper(m[:1]) + m[1:]), "quota": Int(5 << 30), "password": Secret(specs.Fingerprint("$argon2id$" + canary + m))},
			DependsOn: []Address{"server/mx1"}, Within: "host/mx1/instance", Protected: "it holds mail", Effect: m + "@acme.example receives mail"})
	}
	return append(rs, Resource{Address: "alias/postmaster@acme.example", Provider: "host", Kind: "alias",
		Attrs: Attrs{"to": Strings("alice@acme.example")}, DependsOn: []Address{"server/mx1"}, Within: "host/mx1/instance"})
}

// zoneFound is the world before the first apply.
func zoneFound() []Object {
	return []Object{{Address: "zone/acme.example", Provider: "cloudflare", Kind: "zone", ID: "z1", Attrs: Attrs{"name": String("acme.example")},
		Outputs: Attrs{"id": String("z1"), "name": String("acme.example")}}}
}

// applied is the world after a perfect apply of the resources.
func applied(desired []Resource) []Object {
	outputs := map[Ref]Value{
		{"host/mx1/address-link", "ip"}:      String("203.0.113.7"),
		{"host/mx1/address", "ip"}:           String("203.0.113.7"),
		{"dkim/acme.example/mf1-rsa", "txt"}: String(dkimTXT),
		{"host/mx1/instance", "host_key"}:    String("SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8"),
		{"zone/acme.example", "id"}:          String("z1"),
	}
	lookup := func(r Ref) (Value, bool) {
		if v, ok := outputs[r]; ok {
			return v, true
		}
		return String("id-of-" + strings.ReplaceAll(string(r.Address), "/", "-")), true
	}
	var out []Object
	for _, r := range desired {
		o := Object{Address: r.Address, Provider: r.Provider, Kind: r.Kind, Owner: Ours, Attrs: r.Attrs.Resolve(lookup), Outputs: Attrs{}, Protected: r.Protected}
		for _, name := range r.CreateOnly {
			delete(o.Attrs, name)
		}
		if r.Lookup {
			o.Owner = Unowned
		}
		if r.Provider != "host" {
			v, _ := lookup(Ref{r.Address, "id"})
			o.ID = v.Str()
		}
		for _, name := range r.Outputs {
			o.Outputs[name], _ = lookup(Ref{r.Address, name})
		}
		o.DependsOn = append(o.DependsOn, r.DependsOn...)
		for _, ref := range r.Attrs.Refs() {
			o.DependsOn = append(o.DependsOn, ref.Address)
		}
		out = append(out, o)
	}
	return out
}

// change gives the resource at an address a new value.
func change(rs []Resource, a Address, attr string, v Value) []Resource {
	for i := range rs {
		if rs[i].Address == a {
			attrs := Attrs{}
			for k, old := range rs[i].Attrs {
				attrs[k] = old
			}
			attrs[attr] = v
			rs[i].Attrs = attrs
		}
	}
	return rs
}

// drift gives the object at an address another value.
func drift(os []Object, a Address, attr string, v Value) []Object {
	for i := range os {
		if os[i].Address == a {
			os[i].Attrs[attr] = v
		}
	}
	return os
}

// sampleCompilers batch as the real providers do: clouds one call a change, a
// zone's records in one call but for MX, a host's things in one converge.
func sampleCompilers() map[string]func([]Change) []Op {
	alicloud := func(changes []Change) []Op {
		ops := eachAlone(changes)
		for i := range ops {
			ops[i].Seconds = 4
			if ops[i].Addresses[0] == "host/mx1/instance" {
				ops[i].Seconds = 40
			}
			verb, _, _ := strings.Cut(ops[i].Title, " ")
			ops[i].Title = verb + " the " + ops[i].Addresses[0].Segments()[2]
		}
		return ops
	}
	cloudflare := func(changes []Change) []Op {
		var ops []Op
		batch := func(id, title string, in func(Change) bool) {
			op := Op{ID: "cloudflare." + id, Provider: "cloudflare", Kind: "batch", Title: title, Seconds: 2}
			for _, c := range changes {
				if c.Pending() && in(c) {
					op.Addresses = append(op.Addresses, c.Address)
					if v, ok := c.After["content"]; ok {
						if op.Inputs == nil {
							op.Inputs = Attrs{}
						}
						op.Inputs[string(c.Address)] = v
					}
				}
			}
			if len(op.Addresses) > 0 {
				ops = append(ops, op)
			}
		}
		mx := func(c Change) bool { return strings.HasSuffix(string(c.Address), "/mx") }
		dkim := func(c Change) bool { return strings.Contains(string(c.Address), "/dkim/") }
		batch("records acme.example", "change the records of acme.example", func(c Change) bool { return c.Action != Delete && !mx(c) && !dkim(c) })
		batch("dkim acme.example", "publish the keys of acme.example", func(c Change) bool { return c.Action != Delete && dkim(c) })
		batch("mx acme.example", "send mail for acme.example here", func(c Change) bool { return c.Action != Delete && mx(c) })
		batch("remove mx acme.example", "stop mail for acme.example", func(c Change) bool { return c.Action == Delete && mx(c) })
		batch("remove acme.example", "remove records of acme.example", func(c Change) bool { return c.Action == Delete && !mx(c) })
		return ops
	}
	host := func(changes []Change) []Op {
		agent := Op{ID: "host.Install mx1", Provider: "host", Kind: "Install", Title: "install mailformd", Seconds: 20}
		keys := Op{ID: "host.Keys mx1", Provider: "host", Kind: "Converge", Title: "make the signing keys", Seconds: 2}
		converge := Op{ID: "host.Converge mx1", Provider: "host", Kind: "Converge", Title: "converge mx1", Seconds: 3}
		for _, c := range changes {
			if c.Action == Delete && c.Address == "host/mx1/agent" {
				return nil // the machine goes, and all that is on it
			}
		}
		for _, c := range changes {
			switch op := &converge; {
			case !c.Pending():
			case c.Kind == "agent":
				agent.Addresses = append(agent.Addresses, c.Address)
			case c.Kind == "dkim-key":
				keys.Addresses = append(keys.Addresses, c.Address)
			default:
				op.Addresses = append(op.Addresses, c.Address)
			}
		}
		var ops []Op
		for _, op := range []Op{agent, keys, converge} {
			if len(op.Addresses) > 0 {
				ops = append(ops, op)
			}
		}
		return ops
	}
	acme := func(changes []Change) []Op {
		var ops []Op
		for _, c := range changes {
			if c.Pending() && c.Action != Delete {
				ops = append(ops, Op{ID: "acme.Obtain " + string(c.Address), Provider: "acme", Kind: "Obtain", Title: "obtain the certificate",
					Addresses: []Address{c.Address}, Seconds: 25})
			}
		}
		return ops
	}
	return map[string]func([]Change) []Op{"alicloud": alicloud, "cloudflare": cloudflare, "host": host, "acme": acme}
}

func sampleInput(desired []Resource, observed []Object) Input {
	return Input{Stack: "acme-mail", Desired: desired, Observed: observed, Compilers: sampleCompilers(),
		Foreign: []Foreign{{"zone acme.example", 35}}}
}

// many is n local parts.
func many(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("user%04d", i)
	}
	return out
}
