package sdk

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
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

// SPIRE's scenario `force-rotation-upstream-authority`, as far as the server goes.
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
	equal(t, "revoked", must[*authorityv1.RevokeX509UpstreamAuthorityResponse](t)(revoke(first)).UpstreamAuthoritySubjectKeyId, first)
	left := x509Authorities(t, server)
	equal(t, "left", len(left), 1)
	_, there = left[second]
	equal(t, "the new root is left", there, true)
}
