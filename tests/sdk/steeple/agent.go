package steeple

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
)

// Agent is one in a directory of its own.
type Agent struct {
	*Process
	ID  *types.SPIFFEID
	Dir string

	t *testing.T
}

// Join starts an agent of this server, with these lines in its configuration besides what each has.
func (s *Server) Join(config ...string) *Agent {
	s.t.Helper()
	token, err := agentv1.NewAgentClient(s.Admin).CreateJoinToken(context.Background(), &agentv1.CreateJoinTokenRequest{Ttl: 60})
	Must(s.t, err)
	var bundle []byte
	for _, root := range s.Roots() {
		bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})...)
	}
	agent := StartAgent(s.t, s.Address, bundle, token.Value, config...)
	agent.WaitFor(" synced ")
	return agent
}

// StartAgent starts an agent that joins whoever has this address with this token; or, if that is empty,
// as its configuration says.
func StartAgent(t *testing.T, address string, bundle []byte, token string, config ...string) *Agent {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "steeple-sdk.")
	Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	Must(t, os.Chmod(dir, 0o755))
	a := &Agent{Dir: dir, t: t, ID: &types.SPIFFEID{TrustDomain: TrustDomain, Path: "/spire/agent/join_token/" + token}}
	Must(t, os.WriteFile(a.Path("bundle.pem"), bundle, 0o600))
	Must(t, os.WriteFile(a.Path("token"), []byte(token), 0o600))
	lines := []string{
		fmt.Sprintf("server = %q", address),
		fmt.Sprintf("trust_domain = %q", TrustDomain),
		fmt.Sprintf("data_dir = %q", a.Path("data")),
		fmt.Sprintf("socket_path = %q", a.Path("run/api.sock")),
		fmt.Sprintf("trust_bundle = %q", a.Path("bundle.pem")),
		`sync_interval = "1s"`,
	}
	if token != "" {
		lines = append(lines, fmt.Sprintf("join_token_file = %q", a.Path("token")))
	}
	for _, line := range config {
		lines = append(lines, strings.ReplaceAll(line, "DIR", dir))
	}
	Must(t, os.WriteFile(a.Path("agent.toml"), []byte(strings.Join(lines, "\n")), 0o600))
	a.Process = Start(t, "steeple-agent", "run", "--config", a.Path("agent.toml"))
	a.WaitFor("Starting agent APIs")
	return a
}

// Path is that of a file in its directory.
func (a *Agent) Path(name string) string {
	return filepath.Join(a.Dir, name)
}

// Run is what a command of the agent's prints as one of its workloads, and whether it succeeded.
func (a *Agent) Run(arguments ...string) (string, error) {
	command := exec.Command(Binary("steeple-agent"), arguments...)
	command.Env = append(os.Environ(), "SPIFFE_ENDPOINT_SOCKET=unix://"+a.Path("run/api.sock"))
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	err := command.Run()
	return said.String(), err
}
