package sdk

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/sdk/steeple"
	"example.org/sdk/tape"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// spire is a server made of SPIRE's own stubs, as far as an agent needs one. Every call that it does
// not have is answered as SPIRE answers one that it does not know.
type spire struct {
	agentv1.UnimplementedAgentServer
	bundlev1.UnimplementedBundleServer
	entryv1.UnimplementedEntryServer
	svidv1.UnimplementedSVIDServer

	t       *testing.T
	key     *ecdsa.PrivateKey
	ca      *x509.Certificate
	foreign *types.Bundle
	entries []*types.Entry
	life    time.Duration
	heads   chan metadata.MD
	asked   *tape.Tape
}

// certify makes a certificate of this server's authority.
func (s *spire) certify(key any, path string, life time.Duration) *types.X509SVID {
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes([]byte(fmt.Sprint(time.Now().UnixNano()))),
		Subject:      pkix.Name{Country: []string{"US"}, Organization: []string{"SPIRE"}},
		NotBefore:    time.Now().Add(-10 * time.Second),
		NotAfter:     time.Now().Add(life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:         []*url.URL{{Scheme: "spiffe", Host: steeple.TrustDomain, Path: path}},
		// It says that it is no authority.
		BasicConstraintsValid: true,
	}
	der := must[[]byte](s.t)(x509.CreateCertificate(rand.Reader, template, s.ca, key, s.key))
	return &types.X509SVID{CertChain: [][]byte{der}, Id: spiffeID(path), ExpiresAt: template.NotAfter.Unix()}
}

// csr is what an agent asks for: it has to be signed by its key.
func csr(der []byte) (*x509.CertificateRequest, error) {
	request, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = request.CheckSignature()
	}
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return request, nil
}

func (s *spire) AttestAgent(stream grpc.BidiStreamingServer[agentv1.AttestAgentRequest, agentv1.AttestAgentResponse]) error {
	request, err := stream.Recv()
	if err != nil {
		return err
	}
	parsed, err := csr(request.GetParams().GetParams().GetCsr())
	if err != nil {
		return err
	}
	data := request.GetParams().GetData()
	if data.Type == "x509pop" {
		return s.challenge(stream, data.Payload, parsed)
	}
	svid := s.certify(parsed.PublicKey, "/spire/agent/"+data.Type+"/"+string(data.Payload), s.life)
	return stream.Send(&agentv1.AttestAgentResponse{
		Step: &agentv1.AttestAgentResponse_Result_{Result: &agentv1.AttestAgentResponse_Result{Svid: svid}},
	})
}

// challenge has a node prove that it holds the key of its certificate, as a server of SPIRE's does.
func (s *spire) challenge(stream grpc.BidiStreamingServer[agentv1.AttestAgentRequest, agentv1.AttestAgentResponse], payload []byte, wanted *x509.CertificateRequest) error {
	var shown struct{ Certificates [][]byte }
	if err := json.Unmarshal(payload, &shown); err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(shown.Certificates[0])
	if err != nil {
		return err
	}
	own := make([]byte, 32)
	must[int](s.t)(rand.Read(own))
	challenge := must[[]byte](s.t)(json.Marshal(map[string]*nonce{"ecdsa_signature": {own}, "rsa_signature": nil}))
	step := &agentv1.AttestAgentResponse_Challenge{Challenge: challenge}
	if err := stream.Send(&agentv1.AttestAgentResponse{Step: step}); err != nil {
		return err
	}
	request, err := stream.Recv()
	if err != nil {
		return err
	}
	var response struct {
		ECDSA answered `json:"ecdsa_signature"`
	}
	if err := json.Unmarshal(request.GetChallengeResponse(), &response); err != nil {
		return err
	}
	digest := sha256.Sum256(append(own, response.ECDSA.Nonce...))
	r, sig := new(big.Int).SetBytes(response.ECDSA.R), new(big.Int).SetBytes(response.ECDSA.S)
	if len(response.ECDSA.Nonce) != 32 || !ecdsa.Verify(leaf.PublicKey.(*ecdsa.PublicKey), digest[:], r, sig) {
		return status.Error(codes.PermissionDenied, "it does not hold the key")
	}
	path := possession{certificate: leaf.Raw}.path()
	return stream.Send(&agentv1.AttestAgentResponse{Step: &agentv1.AttestAgentResponse_Result_{
		Result: &agentv1.AttestAgentResponse_Result{Svid: s.certify(wanted.PublicKey, path, time.Hour), Reattestable: true},
	}})
}

func (s *spire) RenewAgent(_ context.Context, request *agentv1.RenewAgentRequest) (*agentv1.RenewAgentResponse, error) {
	parsed, err := csr(request.GetParams().GetCsr())
	if err != nil {
		return nil, err
	}
	return &agentv1.RenewAgentResponse{Svid: s.certify(parsed.PublicKey, "/spire/agent/join_token/token", time.Hour)}, nil
}

func (s *spire) PostStatus(context.Context, *agentv1.PostStatusRequest) (*agentv1.PostStatusResponse, error) {
	return &agentv1.PostStatusResponse{}, nil
}

func (s *spire) GetBundle(context.Context, *bundlev1.GetBundleRequest) (*types.Bundle, error) {
	return &types.Bundle{
		TrustDomain:     steeple.TrustDomain,
		X509Authorities: []*types.X509Certificate{{Asn1: s.ca.Raw}},
		JwtAuthorities:  []*types.JWTKey{s.foreign.JwtAuthorities[0]},
		SequenceNumber:  1,
	}, nil
}

func (s *spire) GetFederatedBundle(_ context.Context, request *bundlev1.GetFederatedBundleRequest) (*types.Bundle, error) {
	if request.TrustDomain != s.foreign.TrustDomain {
		return nil, status.Error(codes.NotFound, "bundle not found")
	}
	return s.foreign, nil
}

func (s *spire) SyncAuthorizedEntries(stream grpc.BidiStreamingServer[entryv1.SyncAuthorizedEntriesRequest, entryv1.SyncAuthorizedEntriesResponse]) error {
	head, _ := metadata.FromIncomingContext(stream.Context())
	select {
	case s.heads <- head:
	default:
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	// More than come at once: the agent is told their revisions, and asks.
	answer := &entryv1.SyncAuthorizedEntriesResponse{}
	for _, entry := range s.entries {
		answer.EntryRevisions = append(answer.EntryRevisions, &entryv1.EntryRevision{
			Id: entry.Id, RevisionNumber: entry.RevisionNumber, CreatedAt: entry.CreatedAt,
		})
	}
	if err := stream.Send(answer); err != nil {
		return err
	}
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil // it has all that it wants
		}
		answer := &entryv1.SyncAuthorizedEntriesResponse{}
		for _, entry := range s.entries {
			if slices.Contains(request.Ids, entry.Id) {
				answer.Entries = append(answer.Entries, entry)
			}
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func (s *spire) BatchNewX509SVID(_ context.Context, request *svidv1.BatchNewX509SVIDRequest) (*svidv1.BatchNewX509SVIDResponse, error) {
	answer := &svidv1.BatchNewX509SVIDResponse{}
	for _, params := range request.Params {
		parsed, err := csr(params.Csr)
		if err != nil {
			return nil, err
		}
		answer.Results = append(answer.Results, &svidv1.BatchNewX509SVIDResponse_Result{
			Status: &types.Status{}, Svid: s.certify(parsed.PublicKey, "/web", time.Hour),
		})
	}
	return answer, nil
}

func (s *spire) NewJWTSVID(context.Context, *svidv1.NewJWTSVIDRequest) (*svidv1.NewJWTSVIDResponse, error) {
	return nil, status.Error(codes.Unimplemented, "JWT functionality is disabled")
}

// serve starts it, and says where, and what its bundle is.
func (s *spire) serve() (string, []byte) {
	key := steeple.NewKey(s.t)
	svid := s.certify(key.Public(), "/spire/server", time.Hour)
	security := credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: svid.CertChain, PrivateKey: key}},
		ClientAuth:   tls.RequestClientCert,
		MinVersion:   tls.VersionTLS12,
	})
	server := grpc.NewServer(append(s.asked.ServerOptions(), grpc.Creds(security))...)
	agentv1.RegisterAgentServer(server, s)
	bundlev1.RegisterBundleServer(server, s)
	entryv1.RegisterEntryServer(server, s)
	svidv1.RegisterSVIDServer(server, s)
	listener := must[net.Listener](s.t)(net.Listen("tcp", "127.0.0.1:0"))
	go server.Serve(listener)
	s.t.Cleanup(server.Stop)
	return listener.Addr().String(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.ca.Raw})
}

// inSPIREsPlace makes one that has an entry for this user.
func inSPIREsPlace(t *testing.T) *spire {
	t.Helper()
	key := steeple.NewKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(2 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		Subject:  pkix.Name{Country: []string{"US"}, Organization: []string{"SPIFFE"}},
		URIs:     []*url.URL{{Scheme: "spiffe", Host: steeple.TrustDomain}},
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	web := entry("/web", fmt.Sprintf("uid:%d", os.Getuid()))
	web.Id, web.ParentId, web.CreatedAt, web.FederatesWith = "web", spiffeID("/spire/agent/join_token/token"), 1, []string{"b.test"}
	return &spire{t: t, key: key, ca: must[*x509.Certificate](t)(x509.ParseCertificate(der)), foreign: foreignBundle(t, "b.test"),
		entries: []*types.Entry{web}, life: 8 * time.Second, heads: make(chan metadata.MD, 1), asked: record()}
}

// A node's certificate of a PKI that is there already: our agent's proof, as others check it.
func TestOurAgentProvesThatItHoldsItsKey(t *testing.T) {
	t.Parallel()
	holder, _ := existingPKI(t)
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		steeple.Must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	certificate := write("node.pem", "CERTIFICATE", holder.certificate)
	key := write("node.key", "PRIVATE KEY", must[[]byte](t)(x509.MarshalPKCS8PrivateKey(holder.key)))
	address, bundle := inSPIREsPlace(t).serve()
	agent := steeple.StartAgent(t, address, bundle, "", "[node_attestor.x509pop]",
		fmt.Sprintf("private_key_path = %q", key), fmt.Sprintf("certificate_path = %q", certificate))
	if said := agent.WaitFor("Node attestation was successful"); !strings.Contains(said, steeple.ID(holder.path())) {
		t.Error(said)
	}
	agent.WaitFor(" synced ")
}

// Every call of our agent, as it comes over the wire: main checks the bytes of each.
func TestOurAgentsCallsAreThoseOfSPIREsWire(t *testing.T) {
	t.Parallel()
	s := inSPIREsPlace(t)
	address, bundle := s.serve()
	agent := steeple.StartAgent(t, address, bundle, "token")
	agent.WaitFor(" synced ")

	said, err := agent.Run("api", "fetch", "x509")
	if err != nil || !strings.Contains(said, steeple.ID("/web")) {
		t.Errorf("%v: %s", err, said)
	}
	// A server that makes no tokens says so, and the agent passes it on.
	said, err = agent.Run("api", "fetch", "jwt", "--audience", "a")
	if err == nil || !strings.Contains(said, "JWT functionality is disabled") {
		t.Errorf("%v: %s", err, said)
	}
	calls := map[string]func(message any){
		"agent.v1.Agent/AttestAgent":           nil,
		"agent.v1.Agent/RenewAgent":            nil,
		"agent.v1.Agent/PostStatus":            nil,
		"bundle.v1.Bundle/GetBundle":           nil,
		"svid.v1.SVID/BatchNewX509SVID":        nil,
		"svid.v1.SVID/NewJWTSVID":              func(m any) { equal(t, "entry", m.(*svidv1.NewJWTSVIDRequest).EntryId, "web") },
		"entry.v1.Entry/SyncAuthorizedEntries": nil,
		"bundle.v1.Bundle/GetFederatedBundle": func(m any) {
			equal(t, "trust domain", m.(*bundlev1.GetFederatedBundleRequest).TrustDomain, "b.test")
		},
	}
	for path, check := range calls {
		path = "/spire.api.server." + path
		for deadline := time.Now().Add(steeple.Patience); len(s.asked.Messages(path)) == 0; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the agent never called ", path)
			}
		}
		for _, message := range s.asked.Messages(path) {
			if check != nil {
				check(message)
			}
		}
	}
	attested := s.asked.Messages("/spire.api.server.agent.v1.Agent/AttestAgent")
	equal(t, "by token", slices.ContainsFunc(attested, func(message proto.Message) bool {
		data := message.(*agentv1.AttestAgentRequest).GetParams().GetData()
		return data.GetType() == "join_token" && string(data.GetPayload()) == "token"
	}), true)

	// The first request of a sync wants no entry by name, and needs the revisions.
	syncs := s.asked.Messages("/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries")
	first, second := syncs[0].(*entryv1.SyncAuthorizedEntriesRequest), syncs[1].(*entryv1.SyncAuthorizedEntriesRequest)
	equal(t, "ids", len(first.Ids), 0)
	if mask := first.OutputMask; mask != nil {
		equal(t, "wants revisions", mask.RevisionNumber, true)
		equal(t, "wants what it needs", mask.SpiffeId && mask.Selectors && mask.FederatesWith && mask.Hint && mask.CreatedAt, true)
	}
	equal(t, "ids", strings.Join(second.Ids, " "), "web")

	head := <-s.heads
	equal(t, "content-type", strings.Join(head["content-type"], ","), "application/grpc")
	equal(t, "authorities", len(head[":authority"]), 1)
	if agents := head["user-agent"]; len(agents) != 1 || !strings.Contains(agents[0], "tonic") {
		t.Errorf("user-agent: %v", agents)
	}
}
