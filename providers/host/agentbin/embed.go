//go:build embed_agent

package agentbin

import _ "embed"

// `make build` puts these files here first.
var (
	//go:embed mailformd-linux-amd64.gz
	linuxAMD64 []byte
	//go:embed mailformd-linux-arm64.gz
	linuxARM64 []byte
)

func embedded(arch string) []byte {
	switch arch {
	case "amd64":
		return linuxAMD64
	case "arm64":
		return linuxARM64
	}
	return nil
}
