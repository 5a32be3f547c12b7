// Command mailformd is the mail server and the agent that converges its host.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
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
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "mailformd:", err)
		os.Exit(1)
	}
}
