package sdk

import (
	"crypto/x509"
	"encoding/hex"
	"testing"

	"example.org/sdk/steeple"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	authorityv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/localauthority/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

func bundleOf(t *testing.T, server *steeple.Server) *types.Bundle {
	t.Helper()
	return must[*types.Bundle](t)(bundlev1.NewBundleClient(server.Admin).GetBundle(within(t), &bundlev1.GetBundleRequest{}))
}

// x509Authorities are those of a bundle, by whether they are tainted.
func x509Authorities(t *testing.T, server *steeple.Server) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, authority := range bundleOf(t, server).X509Authorities {
		certificate := must[*x509.Certificate](t)(x509.ParseCertificate(authority.Asn1))
		found[hex.EncodeToString(certificate.SubjectKeyId)] = authority.Tainted
	}
	return found
}

func TestAnX509AuthorityIsReplacedAndRevoked(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	client := authorityv1.NewLocalAuthorityClient(server.Admin)
	state := func() *authorityv1.GetX509AuthorityStateResponse {
		return must[*authorityv1.GetX509AuthorityStateResponse](t)(client.GetX509AuthorityState(within(t), &authorityv1.GetX509AuthorityStateRequest{}))
	}
	before := state()
	equal(t, "prepared", before.Prepared, nil)
	equal(t, "old", before.Old, nil)
	first := before.Active.AuthorityId
	soon(t, "active", before.Active.ExpiresAt, 24*3600)
	equal(t, "upstream", before.Active.UpstreamAuthoritySubjectKeyId, "")
	_, err := client.ActivateX509Authority(within(t), &authorityv1.ActivateX509AuthorityRequest{})
	refused(t, err, codes.InvalidArgument, "")
	_, err = client.TaintX509Authority(within(t), &authorityv1.TaintX509AuthorityRequest{AuthorityId: first})
	refused(t, err, codes.InvalidArgument, "")

	prepared := must[*authorityv1.PrepareX509AuthorityResponse](t)(client.PrepareX509Authority(within(t), &authorityv1.PrepareX509AuthorityRequest{})).PreparedAuthority
	second := prepared.AuthorityId
	// Asked for once more, it is the same one.
	same(t, must[*authorityv1.PrepareX509AuthorityResponse](t)(
		client.PrepareX509Authority(within(t), &authorityv1.PrepareX509AuthorityRequest{})).PreparedAuthority, prepared)
	same(t, state().Prepared, prepared)
	same(t, state().Active, before.Active)
	// Whoever verifies knows it before it signs.
	equal(t, "authorities", len(x509Authorities(t, server)), 2)
	_, err = client.ActivateX509Authority(within(t), &authorityv1.ActivateX509AuthorityRequest{AuthorityId: first})
	refused(t, err, codes.InvalidArgument, "")
	_, err = client.TaintX509Authority(within(t), &authorityv1.TaintX509AuthorityRequest{AuthorityId: second})
	refused(t, err, codes.InvalidArgument, "")

	activated := must[*authorityv1.ActivateX509AuthorityResponse](t)(
		client.ActivateX509Authority(within(t), &authorityv1.ActivateX509AuthorityRequest{AuthorityId: second})).ActivatedAuthority
	same(t, activated, prepared)
	same(t, state().Active, prepared)
	equal(t, "old", state().Old.GetAuthorityId(), first)
	minted := server.Mint("/after")
	leaf := must[*x509.Certificate](t)(x509.ParseCertificate(minted.Chain[0]))
	equal(t, "issuer", hex.EncodeToString(leaf.AuthorityKeyId), second)

	_, err = client.RevokeX509Authority(within(t), &authorityv1.RevokeX509AuthorityRequest{AuthorityId: first})
	refused(t, err, codes.InvalidArgument, "untainted")
	tainted := must[*authorityv1.TaintX509AuthorityResponse](t)(
		client.TaintX509Authority(within(t), &authorityv1.TaintX509AuthorityRequest{AuthorityId: first})).TaintedAuthority
	equal(t, "tainted", tainted.AuthorityId, first)
	equal(t, "first is tainted", x509Authorities(t, server)[first], true)
	equal(t, "second is tainted", x509Authorities(t, server)[second], false)
	revoked := must[*authorityv1.RevokeX509AuthorityResponse](t)(
		client.RevokeX509Authority(within(t), &authorityv1.RevokeX509AuthorityRequest{AuthorityId: first})).RevokedAuthority
	equal(t, "revoked", revoked.AuthorityId, first)
	left := x509Authorities(t, server)
	_, there := left[first]
	equal(t, "still there", there, false)
	equal(t, "left", len(left), 1)
	_, err = client.RevokeX509Authority(within(t), &authorityv1.RevokeX509AuthorityRequest{AuthorityId: second})
	refused(t, err, codes.InvalidArgument, "")
	_, err = client.RevokeX509Authority(within(t), &authorityv1.RevokeX509AuthorityRequest{AuthorityId: first})
	if err == nil {
		t.Error("it was revoked twice")
	}

	// There is no authority above this server.
	_, err = client.TaintX509UpstreamAuthority(within(t), &authorityv1.TaintX509UpstreamAuthorityRequest{SubjectKeyId: second})
	refused(t, err, codes.FailedPrecondition, "")
	_, err = client.RevokeX509UpstreamAuthority(within(t), &authorityv1.RevokeX509UpstreamAuthorityRequest{SubjectKeyId: second})
	refused(t, err, codes.FailedPrecondition, "")
}

func TestAJWTAuthorityIsReplacedAndRevoked(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	client := authorityv1.NewLocalAuthorityClient(server.Admin)
	state := func() *authorityv1.GetJWTAuthorityStateResponse {
		return must[*authorityv1.GetJWTAuthorityStateResponse](t)(client.GetJWTAuthorityState(within(t), &authorityv1.GetJWTAuthorityStateRequest{}))
	}
	tainted := func() map[string]bool {
		found := map[string]bool{}
		for _, key := range bundleOf(t, server).JwtAuthorities {
			found[key.KeyId] = key.Tainted
		}
		return found
	}
	before := state()
	equal(t, "prepared", before.Prepared, nil)
	equal(t, "old", before.Old, nil)
	first := before.Active.AuthorityId
	soon(t, "active", before.Active.ExpiresAt, 24*3600)
	_, err := client.TaintJWTAuthority(within(t), &authorityv1.TaintJWTAuthorityRequest{AuthorityId: first})
	refused(t, err, codes.InvalidArgument, "")
	_, err = client.ActivateJWTAuthority(within(t), &authorityv1.ActivateJWTAuthorityRequest{AuthorityId: first})
	refused(t, err, codes.InvalidArgument, "")

	prepared := must[*authorityv1.PrepareJWTAuthorityResponse](t)(client.PrepareJWTAuthority(within(t), &authorityv1.PrepareJWTAuthorityRequest{})).PreparedAuthority
	second := prepared.AuthorityId
	// Asked for once more, it is the same one.
	same(t, must[*authorityv1.PrepareJWTAuthorityResponse](t)(
		client.PrepareJWTAuthority(within(t), &authorityv1.PrepareJWTAuthorityRequest{})).PreparedAuthority, prepared)
	same(t, state().Prepared, prepared)
	equal(t, "keys", len(tainted()), 2)
	activated := must[*authorityv1.ActivateJWTAuthorityResponse](t)(
		client.ActivateJWTAuthority(within(t), &authorityv1.ActivateJWTAuthorityRequest{AuthorityId: second})).ActivatedAuthority
	same(t, activated, prepared)
	same(t, state().Active, prepared)
	equal(t, "old", state().Old.GetAuthorityId(), first)
	token := must[*svidv1.MintJWTSVIDResponse](t)(svidv1.NewSVIDClient(server.Admin).MintJWTSVID(within(t),
		&svidv1.MintJWTSVIDRequest{Id: spiffeID("/after"), Audience: []string{"a"}})).Svid
	checkToken(t, server, token, "/after", 300, "a")

	_, err = client.RevokeJWTAuthority(within(t), &authorityv1.RevokeJWTAuthorityRequest{AuthorityId: first})
	refused(t, err, codes.InvalidArgument, "untainted")
	taint := must[*authorityv1.TaintJWTAuthorityResponse](t)(
		client.TaintJWTAuthority(within(t), &authorityv1.TaintJWTAuthorityRequest{AuthorityId: first})).TaintedAuthority
	equal(t, "tainted", taint.AuthorityId, first)
	equal(t, "first is tainted", tainted()[first], true)
	equal(t, "second is tainted", tainted()[second], false)
	revoked := must[*authorityv1.RevokeJWTAuthorityResponse](t)(
		client.RevokeJWTAuthority(within(t), &authorityv1.RevokeJWTAuthorityRequest{AuthorityId: first})).RevokedAuthority
	equal(t, "revoked", revoked.AuthorityId, first)
	equal(t, "keys", len(tainted()), 1)
	_, err = client.RevokeJWTAuthority(within(t), &authorityv1.RevokeJWTAuthorityRequest{AuthorityId: second})
	refused(t, err, codes.InvalidArgument, "")
}

func TestThereAreNoWITAuthorities(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, heard)
	client := authorityv1.NewLocalAuthorityClient(server.Admin)
	_, err := client.GetWITAuthorityState(within(t), &authorityv1.GetWITAuthorityStateRequest{})
	refused(t, err, codes.Unimplemented, "")
	_, err = client.PrepareWITAuthority(within(t), &authorityv1.PrepareWITAuthorityRequest{})
	refused(t, err, codes.Unimplemented, "")
	_, err = client.ActivateWITAuthority(within(t), &authorityv1.ActivateWITAuthorityRequest{AuthorityId: "x"})
	refused(t, err, codes.Unimplemented, "")
	_, err = client.TaintWITAuthority(within(t), &authorityv1.TaintWITAuthorityRequest{AuthorityId: "x"})
	refused(t, err, codes.Unimplemented, "")
	_, err = client.RevokeWITAuthority(within(t), &authorityv1.RevokeWITAuthorityRequest{AuthorityId: "x"})
	refused(t, err, codes.Unimplemented, "")
}
