package sdk

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.org/sdk/steeple"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	debugv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/debug/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fetched is the identity of a process of this user, from the Workload API of a real agent.
func fetched(t *testing.T, agent *steeple.Agent, path string) *steeple.Identity {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "svid")
	steeple.Must(t, os.Mkdir(dir, 0o700))
	for deadline := time.Now().Add(steeple.Patience); ; time.Sleep(50 * time.Millisecond) {
		said, err := agent.Run("api", "fetch", "x509", "--write", dir)
		// There may be others too, the first of which is what is read below.
		_, first, _ := strings.Cut(said, "SPIFFE ID:")
		if err == nil && strings.HasPrefix(strings.TrimSpace(first), steeple.ID(path)+"\n") {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(said)
		}
	}
	identity := &steeple.Identity{}
	for rest := must[[]byte](t)(os.ReadFile(filepath.Join(dir, "svid.0.pem"))); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		identity.Chain = append(identity.Chain, block.Bytes)
	}
	block, _ := pem.Decode(must[[]byte](t)(os.ReadFile(filepath.Join(dir, "svid.0.key"))))
	identity.Key = must[any](t)(x509.ParsePKCS8PrivateKey(block.Bytes)).(crypto.Signer)
	return identity
}

// stranger is somebody of another trust domain, with the bundle that vouches for them.
func stranger(t *testing.T, trustDomain, path string) (*steeple.Identity, *types.Bundle) {
	t.Helper()
	caKey, key := steeple.NewKey(t), steeple.NewKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		URIs: []*url.URL{{Scheme: "spiffe", Host: trustDomain}},
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, URIs: []*url.URL{{Scheme: "spiffe", Host: trustDomain, Path: path}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	authority := must[[]byte](t)(x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey))
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey))
	bundle := &types.Bundle{TrustDomain: trustDomain, X509Authorities: []*types.X509Certificate{{Asn1: authority}}}
	return &steeple.Identity{Chain: [][]byte{der}, Key: key}, bundle
}

// SPIRE's scenario `admin-endpoints`: over the network, with what the Workload API gives.
func TestAdminsOverTheNetworkMayWhatOthersMayNot(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, tried, `admin_ids = ["spiffe://foreign.test/admin"]`)
	agent := server.Join()
	mine := fmt.Sprintf("uid:%d", os.Getuid())
	admin := entry("/admin", mine)
	admin.Admin, admin.ParentId = true, agent.ID
	byEntry := create(t, server, admin)[0]
	local := fetched(t, agent, "/admin")
	// The same process, once it is somebody else.
	workload := entry("/workload", mine)
	workload.ParentId = agent.ID
	create(t, server, workload)
	remove(t, server, byEntry.Id)
	ordinary := fetched(t, agent, "/workload")
	create(t, server, byEntry)
	foreign, bundle := stranger(t, "foreign.test", "/admin")
	other, _ := stranger(t, "foreign.test", "/admin") // of an authority that nobody knows
	set := &bundlev1.BatchSetFederatedBundleRequest{Bundle: []*types.Bundle{bundle}}
	must[*bundlev1.BatchSetFederatedBundleResponse](t)(bundlev1.NewBundleClient(server.Admin).BatchSetFederatedBundle(within(t), set))

	conns := map[string]*steeple.Identity{"an admin entry": local, "a foreign admin": foreign, "a workload": ordinary}
	made := 0
	for who, identity := range conns {
		conn := server.Connect(identity)
		for path, method := range methods() {
			if !strings.HasPrefix(path, "/spire.api.server.") || callers(path) != "local admin foreign" || !isServed(path) {
				continue
			}
			made++
			switch code := status.Code(call(within(t), t, conn, path, method)); {
			case who == "a workload":
				equal(t, who+" "+path, code, codes.PermissionDenied)
			case code == codes.PermissionDenied || code == codes.Unimplemented || code == codes.Unavailable || code == codes.Unauthenticated:
				t.Errorf("%s may call %s, and is told %v", who, path, code)
			}
		}
		// What is for this machine alone is not there for anybody else: scenario `debug-endpoints`.
		_, err := debugv1.NewDebugClient(conn).GetInfo(within(t), &debugv1.GetInfoRequest{})
		refused(t, err, codes.Unimplemented, "")
	}
	if made < 3*30 {
		t.Errorf("only %d calls", made)
	}
	_, err := bundlev1.NewBundleClient(server.Connect(other)).CountBundles(within(t), &bundlev1.CountBundlesRequest{})
	refused(t, err, codes.Unavailable, "")
}
