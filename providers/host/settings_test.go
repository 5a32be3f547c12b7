package host

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mailform/plan"
	"mailform/providers/host/hostsim"
	"mailform/server/manifest"
	"mailform/specs"
)

// furnished asks for everything a spec can say about a server.
func furnished(spec *specs.Spec) {
	spec.Server.Limits = specs.Limits{Connections: 1000, ConnectionsPerClient: 20, RecipientsPerMessage: 100, MessagesPerHour: 300}
	spec.Server.Filter = specs.Filter{DNSBL: []string{"zen.example"}, Greylist: true, DMARC: true, Attachments: []string{"js", "exe"}}
	spec.Server.Storage = specs.Storage{Compress: true, Encrypt: true}
	spec.Server.POP3 = &specs.POP3{Exclusive: true}
	spec.Server.SCRAM = false
	spec.Hosts[0].SSH.Harden, spec.Hosts[0].Firewall, spec.Hosts[0].Tune = true, true, true
	spec.Hosts[0].SSH.From = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	spec.Hosts[0].Allow = []specs.Allow{{Name: "game", Protocol: "udp", FromPort: 8000, ToPort: 8010, From: spec.Hosts[0].SSH.From}}
	spec.Backup = &specs.Backup{Endpoint: "https://oss.example", Bucket: "b", Region: "r", Prefix: "p", AccessKeyID: "id", SecretAccessKey: canaryBackup,
		Every: time.Hour, Keep: 30 * 24 * time.Hour}
	spec.Monitor = specs.Monitor{Alerts: []string{"ops@acme.example"}, DiskFreePercent: 10, QueueAge: time.Hour, Certificate: 14 * 24 * time.Hour, Metrics: "127.0.0.1:9100"}
	spec.Domains[0].MTASTS = &specs.MTASTS{Mode: "testing", MaxAge: 7 * 24 * time.Hour}
	spec.Domains[0].Discovery = true
	spec.Domains[0].Retention = []specs.Retention{{Name: "junk", Mailbox: "Junk", After: 7 * 24 * time.Hour}, {Name: "bin", Mailbox: "Trash", After: 30 * 24 * time.Hour}}
	spec.Domains[0].QuotaBytes, spec.Domains[0].QuotaMessages = 100<<30, 1_000_000
}

// What is declared reaches the host word for word, and what the host tells of it
// equals what was declared.
func TestSettingsRoundTrip(t *testing.T) {
	l := &lab{t: t, address: hostAddress, ca: newAuthority(t), now: time.Now()}
	spec := l.spec()
	furnished(spec)
	want := settingsOf(spec, spec.Hosts[0])
	attrs := settingsAttrs(want)
	fields := map[string]plan.Value{}
	for name, v := range attrs {
		fields[name] = v
	}
	got := readSettings(plan.Map(fields))
	for _, d := range attrs["domains"].FieldNames() {
		with := map[string]plan.Value{"name": plan.String(d)}
		for _, f := range attrs["domains"].Field(d).FieldNames() {
			with[f] = attrs["domains"].Field(d).Field(f)
		}
		got.Domains = append(got.Domains, readDomain(plan.Map(with)))
	}
	slices.SortFunc(want.Domains[0].DKIM, func(a, b manifest.DKIMKey) int { return strings.Compare(a.Selector, b.Selector) })
	if !reflect.DeepEqual(&got, want) {
		t.Errorf("got  %+v\nwant %+v", got, *want)
	}
	// Every field of the manifest that is a setting is set, so that a new one
	// which is forgotten here is noticed.
	v := reflect.ValueOf(*want)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if !slices.Contains([]string{"Format", "Stack", "Host", "DataDisk"}, name) && v.Field(i).IsZero() {
			t.Errorf("%s is not translated", name)
		}
	}
}

func TestSettingsChangeFieldByField(t *testing.T) {
	l := newLab(t, hostsim.Config{})
	spec := l.spec()
	l.converge(spec)
	furnished(spec)
	spec.Domains[0].MTASTS, spec.Domains[0].Discovery = nil, false // port 443: see TestWeb
	r := l.converge(spec)
	text, err := json.Marshal(r.plan)
	if err != nil {
		t.Fatal(err)
	}
	noCanary(t, "the plan", text)
	l.mustSettle(spec)

	// A secret whose text is no longer known is kept.
	spec.Server.Limits.MessagesPerHour = 500
	spec.Monitor.QueueAge = 2 * time.Hour
	p := l.provider(spec)
	p.Secret = func(string) (string, bool) { return "", false }
	kept, err := l.plan(p, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, c := range kept.plan.Changes {
		for _, f := range c.Fields {
			paths = append(paths, string(c.Address)+" "+f.Path)
		}
	}
	if want := []string{"server/mx1 limits.messages_per_hour", "server/mx1 monitor.queue_age_seconds"}; !slices.Equal(paths, want) {
		t.Errorf("fields: %q", paths)
	}
	if err := kept.apply(); err != nil {
		t.Fatal(err)
	}
	l.mustSettle(spec)
	m, err := manifest.ReadManifest(l.read("/etc/mailform/manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if m.Backup.SecretAccessKey != canaryBackup || m.Relay.Password != canaryRelay || m.Limits.MessagesPerHour != 500 {
		t.Errorf("not kept: %v %v", m.Backup.SecretAccessKey == canaryBackup, m.Limits)
	}
}
