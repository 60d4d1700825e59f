// A WHIP/WHEP server on another WebRTC stack, small and honest: what the probe is tested against when it shall not be
// its own counterpart. One publisher at a time, any number of viewers; RTP is forwarded as it comes, sound included,
// and a viewer's PLI goes to the publisher. Prints {"port":N,"turn":M} on standard output (M is a TURN server's, user probe, password relay) and exits when standard input ends.
//
//	POST /whip    a publisher's offer   → 201, Location
//	POST /whep    a viewer's offer      → 201, Location; 404 while nobody publishes
//	DELETE /session/{id}                → 200, then 404
//	GET /state                          → what there is, as JSON
//	POST /kick                          → every session is ended by the server
package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/turn/v4"
	"github.com/pion/webrtc/v4"
)

const offerLimit = 64 << 10

type session struct {
	id   string
	role string
	peer *webrtc.PeerConnection
}

// stream is what one publisher sends.
type stream struct {
	owner  *session
	video  *webrtc.TrackLocalStaticRTP
	audio  *webrtc.TrackLocalStaticRTP
	source *webrtc.TrackRemote
}

type server struct {
	api      *webrtc.API
	mu       sync.Mutex
	sessions map[string]*session
	live     *stream
	plis     int
}

func newServer() (*server, error) {
	media := &webrtc.MediaEngine{}
	if err := media.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	registry := &interceptor.Registry{}
	if err := webrtc.RegisterDefaultInterceptors(media, registry); err != nil {
		return nil, err
	}
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	api := webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(settings))
	return &server{api: api, sessions: map[string]*session{}}, nil
}

func (s *server) whip(w http.ResponseWriter, r *http.Request) {
	offer, ok := readOffer(w, r)
	if !ok {
		return
	}
	one, err := s.newSession("publisher")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	live := &stream{owner: one}
	live.video, _ = webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeH264, ClockRate: 90000}, "video", "live")
	live.audio, _ = webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, "audio", "live")
	one.peer.OnTrack(func(remote *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		local := live.audio
		if remote.Kind() == webrtc.RTPCodecTypeVideo {
			local = live.video
			s.mu.Lock()
			live.source = remote
			s.mu.Unlock()
		}
		for {
			packet, _, err := remote.ReadRTP()
			if err != nil {
				return
			}
			_ = local.WriteRTP(packet)
		}
	})
	if s.answer(w, one, offer) {
		s.mu.Lock()
		s.live = live
		s.mu.Unlock()
	}
}

func (s *server) whep(w http.ResponseWriter, r *http.Request) {
	offer, ok := readOffer(w, r)
	if !ok {
		return
	}
	s.mu.Lock()
	live := s.live
	s.mu.Unlock()
	if live == nil {
		http.Error(w, "nobody publishes", http.StatusNotFound)
		return
	}
	one, err := s.newSession("viewer")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	for _, track := range []*webrtc.TrackLocalStaticRTP{live.video, live.audio} {
		sender, err := one.peer.AddTrack(track)
		if err != nil {
			s.end(one.id)
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		go s.feedback(sender, live)
	}
	s.answer(w, one, offer)
}

// feedback passes a viewer's wish for a keyframe on.
func (s *server) feedback(sender *webrtc.RTPSender, live *stream) {
	for {
		packets, _, err := sender.ReadRTCP()
		if err != nil {
			return
		}
		for _, packet := range packets {
			switch packet.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				s.mu.Lock()
				source := live.source
				s.plis++
				s.mu.Unlock()
				if source != nil {
					_ = live.owner.peer.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(source.SSRC())}})
				}
			}
		}
	}
}

func (s *server) newSession(role string) (*session, error) {
	peer, err := s.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	raw := make([]byte, 12)
	if _, err := rand.Read(raw); err != nil {
		return nil, err
	}
	one := &session{id: hex.EncodeToString(raw), role: role, peer: peer}
	s.mu.Lock()
	s.sessions[one.id] = one
	s.mu.Unlock()
	peer.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateFailed || state == webrtc.PeerConnectionStateClosed {
			s.end(one.id)
		}
	})
	return one, nil
}

// answer completes the exchange, candidates included.
func (s *server) answer(w http.ResponseWriter, one *session, offer string) bool {
	fail := func(err error) bool {
		s.end(one.id)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	if err := one.peer.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return fail(err)
	}
	answer, err := one.peer.CreateAnswer(nil)
	if err != nil {
		return fail(err)
	}
	gathered := webrtc.GatheringCompletePromise(one.peer)
	if err := one.peer.SetLocalDescription(answer); err != nil {
		return fail(err)
	}
	<-gathered
	w.Header().Set("Content-Type", "application/sdp")
	w.Header().Set("Location", "/session/"+one.id)
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, one.peer.LocalDescription().SDP)
	return true
}

func (s *server) end(id string) bool {
	s.mu.Lock()
	one := s.sessions[id]
	delete(s.sessions, id)
	if one != nil && s.live != nil && s.live.owner == one {
		s.live = nil
	}
	s.mu.Unlock()
	if one != nil {
		_ = one.peer.Close()
	}
	return one != nil
}

func (s *server) delete(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodDelete {
		http.Error(w, "DELETE ends a session; there is no trickle here", http.StatusMethodNotAllowed)
		return
	}
	if !s.end(strings.TrimPrefix(r.URL.Path, "/session/")) {
		http.NotFound(w, r)
	}
}

func (s *server) state(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	count := map[string]int{"publisher": 0, "viewer": 0, "plis": s.plis}
	for _, one := range s.sessions {
		count[one.role]++
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(count)
}

func (s *server) kick(_ http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	ids := make([]string, 0, len(s.sessions))
	for id := range s.sessions {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	for _, id := range ids {
		s.end(id)
	}
}

func readOffer(w http.ResponseWriter, r *http.Request) (string, bool) {
	if r.Method != http.MethodPost {
		http.Error(w, "POST an offer", http.StatusMethodNotAllowed)
		return "", false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, offerLimit))
	if err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/sdp") {
		http.Error(w, "an offer is application/sdp and small", http.StatusUnsupportedMediaType)
		return "", false
	}
	return string(body), true
}

// relay is a TURN server on loopback that relays from loopback.
func relay() (int, error) {
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	_, err = turn.NewServer(turn.ServerConfig{
		Realm: "peer",
		AuthHandler: func(user, realm string, _ net.Addr) ([]byte, bool) {
			return turn.GenerateAuthKey(user, realm, "relay"), user == "probe"
		},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            socket,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"},
		}},
	})
	return socket.LocalAddr().(*net.UDPAddr).Port, err
}

func main() {
	s, err := newServer()
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/whip", s.whip)
	mux.HandleFunc("/whep", s.whep)
	mux.HandleFunc("/session/", s.delete)
	mux.HandleFunc("/state", s.state)
	mux.HandleFunc("/kick", s.kick)
	go func() { log.Fatal(http.Serve(listener, mux)) }()
	relayPort, err := relay()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("{\"port\":%d,\"turn\":%d}\n", listener.Addr().(*net.TCPAddr).Port, relayPort)
	_, _ = io.Copy(io.Discard, os.Stdin)
}
