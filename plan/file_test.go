package plan

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"

	"mailform/specs"
)

func TestFileRoundTrip(t *testing.T) {
	for name, p := range samples(t) {
		file := Encode(p)
		back, err := Decode(file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(p.Summary(), back.Summary()) || !bytes.Equal(Encode(back), file) {
			t.Errorf("%s is another plan after its file", name)
		}
		if moved := Compare(back, p, nil); len(moved) > 0 {
			t.Errorf("%s: nothing moved, but %q", name, moved)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := string(Encode(samples(t)["first"]))
	edit := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("no %q in the file", from)
		}
		return strings.Replace(good, from, to, 1)
	}
	for _, test := range []struct{ name, file, want string }{
		{"empty", "", "ends too early"},
		{"another document", `{"version":4}` + "\n", "no format_version"},
		{"a newer format", edit(`"format_version":1`, `"format_version":2`), "make the plan again"},
		{"cut off", good[:len(good)/2], "ends too early"},
		{"unknown key", edit(`"stack":`, `"extra":1,"stack":`), "unknown field"},
		{"something after it", good + "{}", "invalid character"},
		{"reformatted", edit(`"stack":`, `"stack": `), "edited or damaged"},
		{"a key twice", edit(`"stack":`, `"stack":"x","stack":`), "edited or damaged"},
		{"unknown action", edit(`"action":"create"`, `"action":"launch"`), `unknown action "launch"`},
		{"an operation that waits for nothing there", edit(`"after":["`, `"after":["x`), "not in the plan"},
		{"deep nesting", strings.Repeat("[", 1<<20), "nested deeper"},
		{"deep nesting after a string", `{"format_version":1,"stack":"]]\"]]` + `","changes":` + strings.Repeat("[", 100), "nested deeper"},
	} {
		if _, err := Decode([]byte(test.file)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
	}
}

func TestDecodeRefusesOperationsInACircle(t *testing.T) {
	p := &Plan{FormatVersion: FormatVersion, Stack: "s", Changes: []Change{{Address: "a", Action: Create}},
		Ops: []Op{{ID: "1", Addresses: []Address{"a"}, After: []string{"2"}}, {ID: "2", Addresses: []Address{"a"}, After: []string{"1"}}}}
	if _, err := Decode(Encode(p)); err == nil || !strings.Contains(err.Error(), "waits for itself") {
		t.Errorf("error %v", err)
	}
}

func TestCompareSaysWhatMoved(t *testing.T) {
	x, y := Address("other/x"), Address("other/y")
	dep := res(y, "2", x)
	in := Input{Desired: []Resource{res(x, "1"), dep}, Observed: []Object{obj(x, "1"), obj(y, "1")}}
	saved := mustBuild(t, in)
	for _, test := range []struct {
		name string
		in   Input
		want []string
	}{
		{"nothing", in, nil},
		{"something that the plan does not touch", Input{Desired: append(in.Desired, res("other/new", "1")), Observed: in.Observed}, nil},
		{"the object", Input{Desired: in.Desired, Observed: []Object{obj(x, "1"), obj(y, "7")}}, []string{`other/y: v was "1", is now "7"`}},
		{"done by someone else", Input{Desired: in.Desired, Observed: []Object{obj(x, "1"), obj(y, "2")}}, []string{"other/y: already is as the plan would make it"}},
		{"gone", Input{Desired: in.Desired, Observed: []Object{obj(x, "1")}}, []string{"other/y: would be updated, now it would be created"}},
		{"another object", Input{Desired: in.Desired, Observed: []Object{obj(x, "1"), with(obj(y, "1"), func(o *Object) { o.ID = "j" })}}, []string{"other/y: was i, is another one now: j"}},
		{"the spec", Input{Desired: []Resource{res(x, "1"), res(y, "3", x)}, Observed: in.Observed}, []string{`other/y: v would become "2", the spec now gives "3"`}},
		{"what it stands on", Input{Desired: in.Desired, Observed: []Object{obj(y, "1")}}, []string{"other/x: the plan counts on it, now it would be created"}},
		{"no longer wanted", Input{Desired: []Resource{res(x, "1")}, Observed: []Object{obj(x, "1")}}, []string{"other/y: is neither in the spec nor there any more"}},
	} {
		test.in.Approved = saved
		if got := Compare(saved, mustBuild(t, test.in), nil); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestHashIsOfWhatIsDone(t *testing.T) {
	in := sampleInput(sampleDesired("alice"), zoneFound())
	h := Hash(mustBuild(t, in))
	if len(h) != 32 {
		t.Errorf("hash %q", h)
	}
	in.Foreign = nil
	if Hash(mustBuild(t, in)) != h {
		t.Error("what is left alone counts")
	}
	in.Desired = change(in.Desired, "dns/acme.example/spf", "content", String("v=spf1 -all"))
	if Hash(mustBuild(t, in)) == h {
		t.Error("another plan has the same hash")
	}
}

// A secret is in no artefact; its fingerprint is only in the plan file.
func TestNoSecretsAnywhere(t *testing.T) {
	desired := sampleDesired("alice", "bob")
	world := applied(desired)
	world = drift(world, "mailbox/alice@acme.example", "password", Secret(specs.Fingerprint("$argon2id$old "+canary)))
	world = drift(world, "server/mx1", "relay", Map(map[string]Value{"host": String("smtp.relay.example"), "password": Secret(specs.Fingerprint("old " + canary))}))
	for _, observed := range [][]Object{zoneFound(), world} {
		p := mustBuild(t, sampleInput(desired, observed))
		artefacts := map[string]string{"file": string(Encode(p))}
		for name, render := range map[string]func(io.Writer, *Plan) error{
			"json": jsonOf(Estimate{}), "markdown": markdownOf(Estimate{}), "dot": WriteDot, "mermaid": WriteMermaid,
			"text": func(w io.Writer, p *Plan) error { return RenderText(w, p, TextOptions{Width: 200}) },
		} {
			var b bytes.Buffer
			if err := render(&b, p); err != nil {
				t.Fatal(err)
			}
			artefacts[name] = b.String()
		}
		for name, text := range artefacts {
			if strings.Contains(text, canary) {
				t.Errorf("%s holds a secret", name)
			}
			if name != "file" && strings.Contains(text, relayPassword.Fingerprint()) {
				t.Errorf("%s holds the fingerprint of a secret", name)
			}
		}
	}
}

func TestValueJSON(t *testing.T) {
	for _, test := range []struct {
		v    Value
		want string
	}{
		{Null(), `null`},
		{String("a<b>&\"\\\n\u2028é"), `"a<b>&\"\\\n\u2028é"`},
		{Int(-7), `-7`},
		{Bool(true), `true`},
		{List(), `[]`},
		{Strings("a", "b"), `["a","b"]`},
		{Map(map[string]Value{"b": Int(1), "a": Null()}), `{"a":null,"b":1}`},
		{Unknown("mailbox/a#b@x", "id"), `{"$ref":"mailbox/a#b@x#id"}`},
		{Concat(String("a"), Int(1), Unknown("x", "id"), String("b"), String("c")), `{"$concat":["a1",{"$ref":"x#id"},"bc"]}`},
		{Secret("f"), `{"$secret":"f"}`},
		{Map(map[string]Value{"$ref": String("x#id")}), `{"$object":{"$ref":"x#id"}}`},
		{Map(map[string]Value{"$object": Map(map[string]Value{"$x": Null()})}), `{"$object":{"$object":{"$object":{"$x":null}}}}`},
	} {
		got, err := json.Marshal(struct{ V Value }{test.v})
		if err != nil {
			t.Fatal(err)
		}
		var plain bytes.Buffer
		enc := json.NewEncoder(&plain)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(test.v); err != nil || strings.TrimSpace(plain.String()) != test.want {
			t.Errorf("%s: %s, want %s (%v)", test.v, plain.String(), test.want, err)
		}
		var back struct{ V Value }
		if err := json.Unmarshal(got, &back); err != nil || !back.V.Equal(test.v) || back.V.Kind() != test.v.Kind() {
			t.Errorf("%s came back as %s (%v)", got, back.V, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	small := Input{
		Desired: []Resource{res("host/a/instance", "1"), with(res("mailbox/b@c", "1"), ref("of", Concat(String("x"), Unknown("host/a/instance", "id")))),
			with(res("dns/c/spf", "1"), ref("key", Secret("f")))},
		Observed: []Object{with(obj("dns/c/spf", "2"), attr("key", Secret("g"))), with(obj("dns/c/mx", "3"), func(o *Object) { o.Protected = "why" })},
		Foreign:  []Foreign{{"zone c", 3}},
	}
	f.Add(Encode(mustBuild(f, small)))
	f.Add([]byte(`{"format_version":1,"stack":"s","changes":null,"ops":null}` + "\n"))
	f.Add([]byte(`{"format_version":1,"stack":"s","changes":[{"address":"a","provider":"p","kind":"k","action":"create","after":{"x":{"$concat":["a",{"$ref":"b#c"}]}}}],"ops":[]}` + "\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		p, err := Decode(file)
		if err != nil {
			return
		}
		if !bytes.Equal(Encode(p), file) {
			t.Fatal("a file that is accepted must be the one that is written")
		}
		// Whatever is accepted can be shown, compared and hashed.
		for _, render := range []func(io.Writer, *Plan) error{jsonOf(Estimate{}), markdownOf(Estimate{}), WriteDot, WriteMermaid,
			func(w io.Writer, p *Plan) error { return RenderText(w, p, TextOptions{Width: 40, Color: true}) }} {
			if err := render(io.Discard, p); err != nil {
				t.Fatal(err)
			}
		}
		if moved := Compare(p, p, nil); p.HasChanges() && len(moved) > 0 {
			t.Fatalf("a plan differs from itself: %q", moved)
		}
		Hash(p)
	})
}

func FuzzValueJSON(f *testing.F) {
	for _, s := range []string{`null`, `"x"`, `-0`, `12`, `[1,[true]]`, `{"$ref":"a#b"}`, `{"$concat":["a",{"$ref":"a#b"},1]}`, `{"$secret":"f"}`, `{"$object":{"$ref":1}}`, `{"a":{"b":null}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if checkDepth(in) != nil {
			return
		}
		var v Value
		if json.Unmarshal(in, &v) != nil {
			return
		}
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var back Value
		if err := json.Unmarshal(out, &back); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if again, _ := json.Marshal(back); !bytes.Equal(out, again) || !back.Equal(v) {
			t.Fatalf("%s became %s", out, again)
		}
	})
}
