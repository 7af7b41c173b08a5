package recording_test

import (
	"bytes"
	"fmt"

	"tunnelcast/internal/recording"
	"tunnelcast/internal/recording/recordingtest"
)

// The names under which a recording is published, best first.
func ExampleMP4Names() {
	n := 0
	for name := range recording.MP4Names("cam-2026-11-21_09-35-58.flv", 1) {
		fmt.Println(name)
		if n++; n == 3 {
			break
		}
	}
	// Output:
	// cam-2026-11-21_09-35-58.mp4
	// cam-2026-11-21_09-35-58-1.mp4
	// cam-2026-11-21_09-35-58-2.mp4
}

// A hidden name is short, whatever the recording is called, and does not look like a recording.
func ExampleKindOf() {
	fmt.Println(recording.KindOf("..-1795254935.flv") == recording.FLV)
	hidden := recording.HiddenName("cam.flv", 1)
	fmt.Println(hidden, recording.KindOf(hidden) == recording.Hidden)
	// Output:
	// true
	// .recorddone-58cd04d599ab6750-1.part true
}

// The third picture of this recording has a time 20 days ahead. It is placed between its neighbours.
func ExampleWalk() {
	file := recordingtest.Build().AVC(1).Key(0).Frame(40).Frame(1_728_000_080).Frame(120).Frame(160).Bytes()
	survey, err := recording.Walk(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		fmt.Println(err)
		return
	}
	part := survey.Parts[0]
	fmt.Printf("%d pictures of %s, %d ms\n", part.Video.Packets, part.Video.Codec, part.Duration)
	fmt.Println(survey.Losses())
	for _, s := range part.Stretches {
		fmt.Printf("bytes %d to %d: %d ms\n", s.Off, s.Off+s.Len, s.Shift[0])
	}
	// Output:
	// 5 pictures of H.264, 200 ms
	// [1 packet with wrong times moved, by up to 1728000.000 s]
	// bytes 13 to 37: 0 ms
	// bytes 37 to 83: 0 ms
	// bytes 83 to 105: -1728000000 ms
	// bytes 105 to 149: 0 ms
}
