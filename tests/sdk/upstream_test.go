package sdk

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/sdk/steeple"
	authorityv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/localauthority/v1"
	"google.golang.org/grpc/codes"
)

// upstream writes a new authority to these files, and returns how it is called.
func upstream(t *testing.T, dir string) string {
	t.Helper()
	key := steeple.NewKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{Organization: []string{"above"}},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(72 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	write := func(name, kind string, der []byte) {
		// In one step, as the server may read it at any time.
		draft := filepath.Join(dir, name+".new")
		steeple.Must(t, os.WriteFile(draft, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		steeple.Must(t, os.Rename(draft, filepath.Join(dir, name)))
	}
	write("ca.key", "PRIVATE KEY", must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key)))
	write("ca.pem", "CERTIFICATE", der)
	return hex.EncodeToString(must[*x509.Certificate](t)(x509.ParseCertificate(der)).SubjectKeyId)
}

// told is what a workload is told at one moment.
type told struct {
	SVIDs []struct {
		SVID   []byte `json:"x509_svid"`
		Bundle []byte `json:"bundle"`
	} `json:"svids"`
}

// roots are the authorities in the bundle that came along, and whether the chain leads to this one.
func (m told) roots(t *testing.T, to string) (all []string, leads bool) {
	t.Helper()
	chain := must[[]*x509.Certificate](t)(x509.ParseCertificates(m.SVIDs[0].SVID))
	for _, root := range must[[]*x509.Certificate](t)(x509.ParseCertificates(m.SVIDs[0].Bundle)) {
		all = append(all, hex.EncodeToString(root.SubjectKeyId))
	}
	return all, hex.EncodeToString(chain[len(chain)-1].AuthorityKeyId) == to
}

// watch follows what one process of this agent is told, until the test ends.
func watch(t *testing.T, agent *steeple.Agent) <-chan told {
	t.Helper()
	command := exec.Command(steeple.Binary("steeple-agent"), "api", "watch", "--output", "json")
	command.Env = append(os.Environ(), "SPIFFE_ENDPOINT_SOCKET=unix://"+agent.Path("run/api.sock"))
	output := must[io.ReadCloser](t)(command.StdoutPipe())
	steeple.Must(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	messages := make(chan told, 100)
	go func() {
		for decoder := json.NewDecoder(output); ; {
			var message told
			if decoder.Decode(&message) != nil {
				return
			}
			if len(message.SVIDs) > 0 {
				messages <- message
			}
		}
	}()
	return messages
}

// until waits for a message that is as it should be.
func until(t *testing.T, messages <-chan told, what string, is func(told) bool) {
	t.Helper()
	for late := time.After(steeple.Patience); ; {
		select {
		case message := <-messages:
			if is(message) {
				return
			}
		case <-late:
			t.Fatal("the workload was never told: ", what)
		}
	}
}

// SPIRE's scenario `force-rotation-upstream-authority`: server, agent and workload.
func TestAnUpstreamAuthorityIsReplacedAndRevoked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := upstream(t, dir)
	server := steeple.Serve(t, heard, "[upstream_authority]", `type = "disk"`,
		fmt.Sprintf("cert_file_path = %q", filepath.Join(dir, "ca.pem")),
		fmt.Sprintf("key_file_path = %q", filepath.Join(dir, "ca.key")))
	client := authorityv1.NewLocalAuthorityClient(server.Admin)
	state := must[*authorityv1.GetX509AuthorityStateResponse](t)(client.GetX509AuthorityState(within(t), &authorityv1.GetX509AuthorityStateRequest{}))
	equal(t, "upstream", state.Active.UpstreamAuthoritySubjectKeyId, first)
	old := state.Active.AuthorityId
	_, there := x509Authorities(t, server)[first]
	equal(t, "the root is in the bundle", there, true)
	agent := server.Join()
	web := entry("/web", fmt.Sprintf("uid:%d", os.Getuid()))
	web.ParentId = agent.ID
	create(t, server, web)
	fetched(t, agent, "/web")
	workload := watch(t, agent)
	until(t, workload, "the first root", func(m told) bool { _, leads := m.roots(t, first); return leads })
	taint := func(id string) (*authorityv1.TaintX509UpstreamAuthorityResponse, error) {
		return client.TaintX509UpstreamAuthority(within(t), &authorityv1.TaintX509UpstreamAuthorityRequest{SubjectKeyId: id})
	}
	revoke := func(id string) (*authorityv1.RevokeX509UpstreamAuthorityResponse, error) {
		return client.RevokeX509UpstreamAuthority(within(t), &authorityv1.RevokeX509UpstreamAuthorityRequest{SubjectKeyId: id})
	}
	_, err := taint(first)
	refused(t, err, codes.InvalidArgument, "")
	_, err = taint("")
	refused(t, err, codes.InvalidArgument, "")

	second := upstream(t, dir)
	prepared := must[*authorityv1.PrepareX509AuthorityResponse](t)(client.PrepareX509Authority(within(t), &authorityv1.PrepareX509AuthorityRequest{})).PreparedAuthority
	equal(t, "upstream of what is prepared", prepared.UpstreamAuthoritySubjectKeyId, second)
	must[*authorityv1.ActivateX509AuthorityResponse](t)(client.ActivateX509Authority(within(t),
		&authorityv1.ActivateX509AuthorityRequest{AuthorityId: prepared.AuthorityId}))
	_, err = client.TaintX509Authority(within(t), &authorityv1.TaintX509AuthorityRequest{AuthorityId: old})
	refused(t, err, codes.FailedPrecondition, "")
	_, err = revoke(first)
	refused(t, err, codes.InvalidArgument, "")

	// Whatever the case of its letters.
	equal(t, "tainted", must[*authorityv1.TaintX509UpstreamAuthorityResponse](t)(taint(strings.ToUpper(first))).UpstreamAuthoritySubjectKeyId, first)
	equal(t, "first is tainted", x509Authorities(t, server)[first], true)
	equal(t, "second is tainted", x509Authorities(t, server)[second], false)
	until(t, workload, "the second root", func(m told) bool { _, leads := m.roots(t, second); return leads })
	equal(t, "revoked", must[*authorityv1.RevokeX509UpstreamAuthorityResponse](t)(revoke(first)).UpstreamAuthoritySubjectKeyId, first)
	left := x509Authorities(t, server)
	equal(t, "left", len(left), 1)
	_, there = left[second]
	equal(t, "the new root is left", there, true)
	until(t, workload, "the second root alone", func(m told) bool {
		roots, leads := m.roots(t, second)
		return leads && slices.Equal(roots, []string{second})
	})
}
