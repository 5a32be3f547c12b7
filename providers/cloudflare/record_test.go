package cloudflare

import (
	"encoding/json"
	"testing"
)

// What is read of a structured record can be written again and then reads the same.
func FuzzStructuredRecords(f *testing.F) {
	f.Add("SRV", `{"priority":0,"weight":1,"port":993,"target":"Mail.acme.example."}`)
	f.Add("SRV", `{"priority":65535,"weight":0,"port":0,"target":"."}`)
	f.Add("CAA", `{"flags":"128","tag":"ISSUE","value":"CA.example ; x=y"}`)
	f.Add("CAA", `{"flags":0,"tag":"issue","value":";"}`)
	f.Add("CAA", `{"flags":0,"tag":"iodef","value":"mailto:\"x\\y"}`)
	f.Add("TLSA", `{"usage":3,"selector":1,"matching_type":1,"certificate":"ABcd"}`)
	f.Fuzz(func(t *testing.T, kind, data string) {
		var in apiData
		if json.Unmarshal([]byte(data), &in) != nil {
			return
		}
		r := fromAPI(apiRecord{Type: kind, Data: in})
		if in.content(kind) == "" {
			return
		}
		param, err := postParam(record{kind: kind, name: "x.example", content: r.content, ttl: 300})
		if err != nil {
			return // nothing that we would write
		}
		text, err := json.Marshal(param)
		if err != nil {
			t.Fatal(err)
		}
		var out apiRecord
		if err := json.Unmarshal(text, &out); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if again := fromAPI(out); again.content != r.content {
			t.Errorf("%s was read as %q, written as %s and read as %q", data, r.content, text, again.content)
		}
	})
}

func TestStructuredContent(t *testing.T) {
	for _, c := range []struct{ kind, data, want string }{
		{"SRV", `{"priority":0,"weight":1,"port":993,"target":"Mail.ACME.example."}`, "0 1 993 mail.acme.example"},
		{"SRV", `{"priority":0,"weight":0,"port":0,"target":"."}`, "0 0 0 ."},
		{"CAA", `{"flags":"0","tag":"Issue","value":"LetsEncrypt.org"}`, `0 issue "letsencrypt.org"`},
		{"CAA", `{"flags":128,"tag":"issue","value":" CA.example ; validationmethods=dns-01"}`, `128 issue "ca.example;validationmethods=dns-01"`},
		{"CAA", `{"flags":0,"tag":"issue","value":";"}`, `0 issue ";"`},
		{"TLSA", `{"usage":3,"selector":1,"matching_type":1,"certificate":"ABCD"}`, "3 1 1 abcd"},
		{"A", `null`, "192.0.2.1"},
	} {
		r := apiRecord{Type: c.kind, Content: "192.0.2.1"}
		if err := json.Unmarshal([]byte(c.data), &r.Data); err != nil {
			t.Fatal(err)
		}
		if got := fromAPI(r).content; got != c.want {
			t.Errorf("%s %s: %q, want %q", c.kind, c.data, got, c.want)
		}
	}
}
