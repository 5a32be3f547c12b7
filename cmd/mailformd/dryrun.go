package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mailform/server/agent"
	"mailform/server/manifest"
)

// exitChanges is how a dry run ends that found something to change.
const exitChanges = 2

// dryRun shows a person on the host what a converge to the installed manifest, or
// to the one in a file, would change.
func dryRun(ctx context.Context, a *agent.Agent, cmd *cobra.Command, args []string) error {
	file := layout().ManifestFile()
	if len(args) == 1 {
		file = args[0]
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	m, err := manifest.ReadManifest(text)
	if err != nil {
		return err
	}
	var events []manifest.AgentEvent
	req := manifest.ConvergeRequest{Claim: manifest.Claim{Stack: m.Stack, Host: m.Host}, Manifest: *m, DryRun: true}
	if _, err := a.Converge(ctx, req, func(e manifest.AgentEvent) { events = append(events, e) }); err != nil {
		return err
	}
	n, err := printDryRun(cmd.OutOrStdout(), events)
	if err == nil && n > 0 {
		err = &agent.Error{Code: exitChanges, Msg: fmt.Sprintf("%d of %d things would change", n, len(events))}
	}
	return err
}

// printDryRun prints what would change, and returns how much that is.
func printDryRun(w io.Writer, events []manifest.AgentEvent) (int, error) {
	n := 0
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, e := range events {
		if e.Status == "would change" {
			n++
			fmt.Fprintf(t, "~ %s\t%s\n", e.Step, e.Detail)
		}
	}
	if n == 0 {
		fmt.Fprintf(t, "Nothing would change: %d things are as they should be.\n", len(events))
	}
	return n, t.Flush()
}
