package host

import (
	"bytes"
	"context"
	"encoding/json"
	"io"

	"mailform/plan"
	"mailform/server/manifest"
)

// Logs reads a host's journal, and follows it until the context ends when the
// query says so. agent and known are as for Inspect.
func (p *Provider) Logs(ctx context.Context, agent plan.Resource, known func(plan.Ref) (plan.Value, bool), q manifest.LogQuery, each func(manifest.LogEntry) error) error {
	host := agent.Address.Segments()[1]
	t, ok := p.readTarget(targetInput(host, agent.Attrs.Resolve(known)))
	if !ok {
		return noAddress(host)
	}
	p.remember(t)
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	command := commandLine(paths.Binary(), "read-logs")
	out, err := p.run(ctx, t, command, func() io.Reader { return bytes.NewReader(append(body, '\n')) }, func(line []byte, _ io.Writer) error {
		var e manifest.LogEntry
		if err := json.Unmarshal(line, &e); err != nil {
			return badAnswer(t, "read-logs", err)
		}
		return each(e)
	})
	switch {
	case err != nil && ctx.Err() != nil && q.Follow:
		return nil // that is how following ends
	case err != nil:
		return err
	case out.status == statusNotFound:
		return &plan.Error{Code: "MF5427", Step: "read the journal of " + t.String(), Sent: command, Got: "mailformd is not installed there", Fix: "Apply the stack first."}
	case out.status != 0:
		return agentError(t, "read the journal", "read-logs", out)
	}
	return nil
}

// statusNotFound is a shell's exit status for a command that is not there.
const statusNotFound = 127
