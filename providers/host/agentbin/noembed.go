//go:build !embed_agent

package agentbin

// embedded is what `make build` embeds: nothing in a plain `go build`.
func embedded(string) []byte { return nil }
