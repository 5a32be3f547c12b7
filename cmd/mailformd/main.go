// Command mailformd is the mail server and the agent that converges its host.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"mailform/server/agent"
)

// version is set by the linker.
var version = "dev"

func main() {
	root := &cobra.Command{
		Use:           "mailformd",
		Short:         "mail server and host agent of mailform",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(agentCommands(version)...)
	root.AddCommand(serveCommands(version)...)
	if err := root.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "mailformd:", err)
		os.Exit(agent.ExitCode(err))
	}
}
