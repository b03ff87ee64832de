package sdk

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"example.org/sdk/steeple"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// possession is a node's certificate of a PKI that is there already, and its key.
type possession struct {
	certificate []byte
	key         *ecdsa.PrivateKey
}

func (p possession) path() string {
	fingerprint := sha1.Sum(p.certificate)
	return "/spire/agent/x509pop/" + hex.EncodeToString(fingerprint[:])
}

// existingPKI makes one with a node in it, and the lines that have a server trust it.
func existingPKI(t *testing.T) (possession, []string) {
	t.Helper()
	caKey, key := steeple.NewKey(t), steeple.NewKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nodes"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node-1"}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		URIs: []*url.URL{{Scheme: "x509pop", Host: steeple.TrustDomain, Path: "/cluster/test"}},
	}
	authority := must[[]byte](t)(x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey))
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey))
	file := filepath.Join(t.TempDir(), "node-ca.pem")
	steeple.Must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority}), 0o600))
	return possession{der, key}, []string{"[node_attestor.x509pop]", fmt.Sprintf("ca_bundle_paths = [%q]", file)}
}

type nonce struct {
	Nonce []byte `json:"nonce"`
}

type answered struct {
	Nonce []byte `json:"nonce"`
	R     []byte `json:"r"`
	S     []byte `json:"s"`
}

// attest proves possession of the key, or of another.
func (p possession) attest(t *testing.T, server *steeple.Server, provenBy *ecdsa.PrivateKey) (*agentv1.AttestAgentResponse_Result, *ecdsa.PrivateKey, error) {
	t.Helper()
	key := steeple.NewKey(t)
	payload := must[[]byte](t)(json.Marshal(map[string][][]byte{"certificates": {p.certificate}}))
	client := agentv1.NewAgentClient(server.Connect(nil))
	stream := must[grpc.BidiStreamingClient[agentv1.AttestAgentRequest, agentv1.AttestAgentResponse]](t)(client.AttestAgent(within(t)))
	steeple.Must(t, stream.Send(&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{
		Params: &agentv1.AttestAgentRequest_Params{
			Data:   &types.AttestationData{Type: "x509pop", Payload: payload},
			Params: &agentv1.AgentX509SVIDParams{Csr: steeple.CSR(t, key, "")},
		},
	}}))
	first, err := stream.Recv()
	if err != nil {
		return nil, nil, err
	}
	var challenge struct {
		ECDSA *nonce `json:"ecdsa_signature"`
	}
	steeple.Must(t, json.Unmarshal(first.GetChallenge(), &challenge))
	equal(t, "nonce", len(challenge.ECDSA.Nonce), 32)
	own := make([]byte, 32)
	must[int](t)(rand.Read(own))
	digest := sha256.Sum256(append(challenge.ECDSA.Nonce, own...))
	r, s, err := ecdsa.Sign(rand.Reader, provenBy, digest[:])
	steeple.Must(t, err)
	response := must[[]byte](t)(json.Marshal(map[string]answered{"ecdsa_signature": {own, r.Bytes(), s.Bytes()}}))
	steeple.Must(t, stream.Send(&agentv1.AttestAgentRequest{
		Step: &agentv1.AttestAgentRequest_ChallengeResponse{ChallengeResponse: response},
	}))
	answer, err := stream.Recv()
	return answer.GetResult(), key, err
}

// SPIRE's scenario `node-attestation`: a client of the protocol, and no agent.
func TestNodesAttestRenewAndAreTurnedAway(t *testing.T) {
	t.Parallel()
	holder, trusted := existingPKI(t)
	server := steeple.Serve(t, heard, trusted...)
	admin := agentv1.NewAgentClient(server.Admin)

	// By token: attested, renewed, banned, and then not renewed.
	byToken := joined(t, server)
	self := agentv1.NewAgentClient(server.Connect(byToken.Identity))
	renewal := &agentv1.RenewAgentRequest{Params: &agentv1.AgentX509SVIDParams{Csr: steeple.CSR(t, steeple.NewKey(t), "")}}
	must[*agentv1.RenewAgentResponse](t)(self.RenewAgent(within(t), renewal))
	must[any](t)(admin.BanAgent(within(t), &agentv1.BanAgentRequest{Id: byToken.id}))
	_, err := self.RenewAgent(within(t), renewal)
	denied(t, err, types.PermissionDeniedDetails_AGENT_BANNED)

	// By certificate: with the key that it is for, and no other.
	_, _, err = holder.attest(t, server, steeple.NewKey(t))
	refused(t, err, codes.PermissionDenied, "failed to attest")
	result, key, err := holder.attest(t, server, holder.key)
	steeple.Must(t, err)
	equal(t, "reattestable", result.Reattestable, true)
	checkSVID(t, server, result.Svid, holder.path(), key, 4*3600)
	id := result.Svid.Id
	found := must[*types.Agent](t)(admin.GetAgent(within(t), &agentv1.GetAgentRequest{Id: id}))
	equal(t, "type", found.AttestationType, "x509pop")
	equal(t, "reattestable", found.CanReattest, true)
	selectors := paths(found.Selectors, func(s *types.Selector) string { return s.Type + ":" + s.Value })
	ca := must[[]byte](t)(os.ReadFile(trusted[1][len(`ca_bundle_paths = ["`) : len(trusted[1])-2]))
	block, _ := pem.Decode(ca)
	equal(t, "selectors", selectors, fmt.Sprintf(
		"x509pop:ca:fingerprint:%x x509pop:san:cluster:test x509pop:serialnumber:02 x509pop:subject:cn:node-1", sha1.Sum(block.Bytes)))

	// It has no need to renew.
	self = agentv1.NewAgentClient(server.Connect(&steeple.Identity{Chain: result.Svid.CertChain, Key: key}))
	_, err = self.RenewAgent(within(t), renewal)
	denied(t, err, types.PermissionDeniedDetails_AGENT_MUST_REATTEST)
	// Again, and again after it was deleted; but not after it was banned.
	_, _, err = holder.attest(t, server, holder.key)
	steeple.Must(t, err)
	must[any](t)(admin.BanAgent(within(t), &agentv1.BanAgentRequest{Id: id}))
	_, _, err = holder.attest(t, server, holder.key)
	denied(t, err, types.PermissionDeniedDetails_AGENT_BANNED)
	refused(t, err, codes.PermissionDenied, "failed to attest: agent is banned")
	must[any](t)(admin.DeleteAgent(within(t), &agentv1.DeleteAgentRequest{Id: id}))
	_, _, err = holder.attest(t, server, holder.key)
	steeple.Must(t, err)
}
