//go:build cgo

package remux

import (
	"context"
	"errors"
	"fmt"

	"github.com/asticode/go-astiav"
)

func (j *job) copy(ctx context.Context) error {
	packet := astiav.AllocPacket()
	if packet == nil {
		return errors.New("out of memory")
	}
	defer packet.Free()
	for n := 0; ; n++ {
		if n%256 == 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if j.in.Reached != nil {
				j.in.Reached(j.video.count.Bytes + j.audio.count.Bytes)
			}
		}
		if err := j.demux.ReadFrame(packet); errors.Is(err, astiav.ErrEof) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read packet: %w", err)
		}
		if written, err := j.copyPacket(packet); err != nil {
			return err
		} else if !written { // the muxer owns what was written
			packet.Unref()
		}
	}
}

func (j *job) copyPacket(packet *astiav.Packet) (written bool, err error) {
	i := packet.StreamIndex()
	if i >= len(j.byIndex) {
		return false, errors.New("read packet: its stream was not there at the beginning")
	}
	t := j.byIndex[i]
	if t == nil {
		return false, nil // captions, data: our MP4 files have none
	}
	if t.early > 0 {
		t.early--
		return false, nil
	}
	n := t.count.Read
	t.count.Read++
	t.count.Bytes += int64(packet.Size())
	stamp := stamp{packet.Pts(), packet.Dts(), packet.Duration()}
	if n < t.lead {
		t.clock.skip(&stamp)
		t.count.Dropped++
		return false, nil
	}
	for len(t.starts) > 0 && t.starts[0] <= n {
		if t.starts[0] == n {
			packet.SetFlags(packet.Flags().Add(astiav.PacketFlagKey))
		}
		t.starts = t.starts[1:]
	}
	t.clock.set(&stamp)
	packet.SetPts(stamp.pts)
	packet.SetDts(stamp.dts)
	packet.SetDuration(stamp.duration)
	packet.SetPos(-1)
	packet.SetStreamIndex(t.index)
	if err := j.mux.WriteInterleavedFrame(packet); err != nil {
		return false, fmt.Errorf("write packet: %w", err)
	}
	t.count.Written++
	return true, nil
}
