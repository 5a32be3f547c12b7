package main

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"mailform/cmd/mailform/internal/session"
	"mailform/providers/world"
)

// exampleFolders are the specs in examples, by name.
func exampleFolders(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../examples/*/*.hcl")
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]string{}
	for _, name := range files {
		dir := filepath.Dir(name)
		folders[filepath.Base(dir)] = dir
	}
	if len(folders) < 2 {
		t.Fatalf("only these examples were found: %v", folders)
	}
	return folders
}

// exampleShell copies an example and starts the world it needs.
func exampleShell(t *testing.T, dir string) (*world.World, shell) {
	t.Helper()
	tmp := t.TempDir()
	s := shell{dir: filepath.Join(tmp, "stack"), env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + tmp, "USER=tester"}}
	if err := os.CopyFS(s.dir, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	spec, _, diags := session.Load(session.Env{Getenv: func(string) string { return "" }, Home: tmp}, session.Options{Dir: s.dir})
	if diags.HasErrors() {
		t.Fatalf("%v", diags)
	}
	w, err := world.Start(context.Background(), world.ForSpec(spec, world.Config{Shim: hostshim(), Dir: filepath.Join(tmp, "world")}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	for name, value := range w.Environment() {
		s.env = append(s.env, name+"="+value)
	}
	return w, s
}

// actions plans and returns what would be done, by address.
func (s shell) actions(t *testing.T, flags ...string) map[string]string {
	t.Helper()
	stdout, _ := s.must(t, 0, append([]string{"plan", "--json"}, flags...)...)
	var doc struct {
		Changes []struct{ Address, Action string }
	}
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
		t.Fatal(err)
	}
	todo := map[string]string{}
	for _, c := range doc.Changes {
		if c.Action != "no-op" {
			todo[c.Address] = c.Action
		}
	}
	return todo
}

// TestWithoutLedger: .mailform is a cache. A plan says the same without it,
// for every example, whether or not the world has moved.
func TestWithoutLedger(t *testing.T) {
	t.Parallel()
	for name, dir := range exampleFolders(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, s := exampleShell(t, dir)
			s.must(t, 0, "apply", "--auto-approve")
			forgotten := func() map[string]string {
				t.Helper()
				with := s.actions(t)
				kept := filepath.Join(s.dir, "kept")
				if err := os.Rename(filepath.Join(s.dir, ".mailform"), kept); err != nil {
					t.Fatal(err)
				}
				without := s.actions(t)
				if !reflect.DeepEqual(with, without) {
					t.Errorf("with the ledger: %v\nwithout: %v", with, without)
				}
				if _, err := os.Stat(filepath.Join(s.dir, ".mailform")); err == nil {
					t.Error("a plan wrote .mailform")
				}
				if err := os.Rename(kept, filepath.Join(s.dir, ".mailform")); err != nil {
					t.Fatal(err)
				}
				return without
			}
			if todo := forgotten(); len(todo) != 0 {
				t.Errorf("there is something to do after apply: %v", todo)
			}

			// Somebody changes a record of ours.
			s.edit(t, w, "v=spf1 ", "v=spf1 ip4:192.0.2.1 ")
			if todo := forgotten(); !slices.Contains(slices.Collect(maps.Values(todo)), "update") {
				t.Errorf("the world has moved, but the plan is %v", todo)
			}
			if err := os.RemoveAll(filepath.Join(s.dir, ".mailform")); err != nil {
				t.Fatal(err)
			}
			s.must(t, 0, "apply", "--auto-approve")
			if todo := s.actions(t); len(todo) != 0 {
				t.Errorf("after an apply without the ledger there is something to do: %v", todo)
			}
		})
	}
}

// edit changes the text of TXT records as a person would, through the DNS API.
func (s shell) edit(t *testing.T, w *world.World, old, new string) {
	t.Helper()
	env := w.Environment()
	call := func(method, path string, body, into any) {
		t.Helper()
		data, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest(method, strings.TrimSuffix(env["CLOUDFLARE_BASE_URL"], "/")+path, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+env["CLOUDFLARE_API_TOKEN"])
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(into); err != nil || res.StatusCode != 200 {
			t.Fatalf("%s %s: %s, %v", method, path, res.Status, err)
		}
	}
	var zones struct{ Result []struct{ ID string } }
	call("GET", "/zones", nil, &zones)
	edited := 0
	for _, z := range zones.Result {
		var records struct{ Result []map[string]any }
		call("GET", "/zones/"+z.ID+"/dns_records?type=TXT", nil, &records)
		for _, r := range records.Result {
			content, _ := r["content"].(string)
			if !strings.Contains(content, old) {
				continue
			}
			change := map[string]any{"type": r["type"], "name": r["name"], "ttl": r["ttl"], "content": strings.Replace(content, old, new, 1)}
			call("PATCH", "/zones/"+z.ID+"/dns_records/"+r["id"].(string), change, &struct{}{})
			edited++
		}
	}
	if edited == 0 {
		t.Fatalf("no TXT record holds %q", old)
	}
}
