/*
 * Tries a build of libav before it is kept: linked statically as recorddone is, it remuxes a small FLV to MP4, reads
 * that back, and decodes a sample with each decoder that it is told of.
 *
 *   probe MP4-FILE DECODER...
 *
 * It prints the first thing that failed and exits 1. A library whose parts for one processor are missing does not even
 * link, and one whose parts are of another version ends here or in a signal.
 */
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/mem.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One gray picture of 16 by 16, as x265 and x264 encode it (Annex B). */
static const uint8_t hevc[] = {
	0, 0, 0, 1, 0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00,
	0x03, 0x00, 0x1e, 0x95, 0x98, 0x09,
	0, 0, 0, 1, 0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x1e,
	0xa0, 0x88, 0x45, 0x96, 0x56, 0x6a, 0xbc, 0xaf, 0x01, 0x68, 0x08, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00, 0x00, 0x03, 0x00,
	0xc8, 0x40,
	0, 0, 0, 1, 0x44, 0x01, 0xc1, 0x73, 0xd0, 0x89,
	0, 0, 0, 1, 0x28, 0x01, 0xaf, 0x1d, 0x80, 0xee, 0x23, 0x8c, 0x24,
};
#define SPS 0x67, 0x64, 0x00, 0x0a, 0xac, 0xd9, 0x5e, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, \
	0xc8, 0x3c, 0x48, 0x96, 0x58
#define PPS 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0
#define IDR 0x65, 0x88, 0x84, 0x00, 0x2b, 0xff, 0xfe, 0xf6, 0x73, 0x7c, 0x25, 0x7d
static const uint8_t sps[] = { SPS }, pps[] = { PPS }, idr[] = { IDR };
static const uint8_t h264[] = { 0, 0, 0, 1, SPS, 0, 0, 0, 1, PPS, 0, 0, 0, 1, IDR };
/* AudioSpecificConfig of AAC-LC, 44.1 kHz, mono, and a frame of silence. */
static const uint8_t asc[] = { 0x12, 0x08 };
static const uint8_t aac[] = { 0x00, 0xc8, 0x00, 0x80, 0x23, 0x80 };
/* The header of an MP3 frame of 417 bytes; all zeros after it are silence. */
static const uint8_t mp3[417] = { 0xff, 0xfb, 0x90, 0x00 };

static void die(const char *what, int error)
{
	fprintf(stderr, "probe: %s", what);
	if (error < 0)
		fprintf(stderr, ": %s", av_err2str(error));
	fputc('\n', stderr);
	exit(1);
}

static int must(int result, const char *what)
{
	if (result < 0)
		die(what, result);
	return result;
}

/* The FLV, and how much of it was read. */
static uint8_t flv[4096];
static int written, taken;

static void put(const uint8_t *data, int size)
{
	memcpy(flv + written, data, size);
	written += size;
}

static void put_number(uint32_t n, int bytes)
{
	while (bytes-- > 0)
		flv[written++] = n >> 8 * bytes;
}

/* begin_tag and end_tag write the tag of one packet (Adobe's FLV specification 10.1, annex E.4.1). */
static int begin_tag(int type, int milliseconds)
{
	int start = written;
	put_number(type, 1);
	put_number(0, 3); /* its size, which end_tag knows */
	put_number(milliseconds, 3);
	put_number(0, 4);
	return start;
}

static void end_tag(int start)
{
	int size = written - start;
	flv[start + 2] = (size - 11) >> 8;
	flv[start + 3] = size - 11;
	put_number(size, 4);
}

enum { pictures = 3 };

static void make_flv(void)
{
	int tag;
	put((const uint8_t *)"FLV\1\5\0\0\0\11\0\0\0\0", 13);
	tag = begin_tag(9, 0);
	put_number(0x17, 1);
	put_number(0, 4);
	put((const uint8_t[]){ 1, sps[1], sps[2], sps[3], 0xff, 0xe1, 0, sizeof sps }, 8);
	put(sps, sizeof sps);
	put((const uint8_t[]){ 1, 0, sizeof pps }, 3);
	put(pps, sizeof pps);
	end_tag(tag);
	tag = begin_tag(8, 0);
	put_number(0xaf00, 2);
	put(asc, sizeof asc);
	end_tag(tag);
	for (int i = 0; i < pictures; i++) {
		tag = begin_tag(9, 40 * i);
		put_number(0x17, 1);
		put_number(1 << 24, 4);
		put_number(sizeof idr, 4);
		put(idr, sizeof idr);
		end_tag(tag);
		tag = begin_tag(8, 40 * i);
		put_number(0xaf01, 2);
		put(aac, sizeof aac);
		end_tag(tag);
	}
}

static int read_flv(void *opaque, uint8_t *buffer, int size)
{
	if (size > written - taken)
		size = written - taken;
	if (size == 0)
		return AVERROR_EOF;
	memcpy(buffer, flv + taken, size);
	taken += size;
	return size;
}

/* remux copies the FLV's packets into an MP4, as recorddone does. */
static void remux(const char *file)
{
	AVFormatContext *in = avformat_alloc_context(), *out = NULL;
	AVPacket *packet = av_packet_alloc();
	int copied = 0;

	make_flv();
	in->pb = avio_alloc_context(av_malloc(4096), 4096, 0, NULL, read_flv, NULL, NULL);
	must(avformat_open_input(&in, "", av_find_input_format("flv"), NULL), "open the FLV");
	must(avformat_find_stream_info(in, NULL), "look at the FLV's streams");
	if (in->nb_streams != 2)
		die("the FLV has not its two streams", 0);
	must(avformat_alloc_output_context2(&out, NULL, "mp4", file), "find the MP4 muxer");
	for (unsigned i = 0; i < in->nb_streams; i++) {
		AVStream *stream = avformat_new_stream(out, NULL);
		must(avcodec_parameters_copy(stream->codecpar, in->streams[i]->codecpar), "copy a stream's parameters");
		stream->codecpar->codec_tag = 0;
	}
	must(avio_open(&out->pb, file, AVIO_FLAG_WRITE), "open the MP4");
	must(avformat_write_header(out, NULL), "begin the MP4");
	while (av_read_frame(in, packet) >= 0) {
		av_packet_rescale_ts(packet, in->streams[packet->stream_index]->time_base,
			out->streams[packet->stream_index]->time_base);
		packet->pos = -1;
		must(av_interleaved_write_frame(out, packet), "write a packet");
		copied++;
	}
	must(av_write_trailer(out), "end the MP4");
	must(avio_closep(&out->pb), "close the MP4");
	if (copied != 2 * pictures)
		die("the FLV has lost packets", 0);

	in = NULL;
	must(avformat_open_input(&in, file, NULL, NULL), "open the MP4 that was made");
	while (av_read_frame(in, packet) >= 0)
		copied--;
	if (copied != 0)
		die("the MP4 has not the FLV's packets", 0);
}

/* decode opens the decoder of that name and has it decode its sample, if there is one, to a frame. */
static void decode(const char *name)
{
	static const struct {
		const char *name;
		const uint8_t *data;
		int size;
	} samples[] = {
		{ "hevc", hevc, sizeof hevc }, { "h264", h264, sizeof h264 }, { "aac", aac, sizeof aac }, { "mp3", mp3, sizeof mp3 },
	};
	const AVCodec *codec = avcodec_find_decoder_by_name(name);
	AVCodecContext *context;
	AVPacket *packet = av_packet_alloc();
	AVFrame *frame = av_frame_alloc();

	if (!codec)
		die(name, AVERROR_DECODER_NOT_FOUND);
	context = avcodec_alloc_context3(codec);
	if (codec->id == AV_CODEC_ID_AAC) {
		context->extradata = av_mallocz(sizeof asc + AV_INPUT_BUFFER_PADDING_SIZE);
		memcpy(context->extradata, asc, context->extradata_size = sizeof asc);
	}
	must(avcodec_open2(context, codec, NULL), name);
	for (unsigned i = 0; i < sizeof samples / sizeof *samples; i++) {
		if (strcmp(samples[i].name, name))
			continue;
		must(av_new_packet(packet, samples[i].size), name);
		memcpy(packet->data, samples[i].data, samples[i].size);
		must(avcodec_send_packet(context, packet), name);
		avcodec_send_packet(context, NULL);
		must(avcodec_receive_frame(context, frame), name);
		if (context->codec_type == AVMEDIA_TYPE_VIDEO ? frame->width != 16 || frame->height != 16 : frame->nb_samples == 0)
			die(name, AVERROR_BUG);
	}
}

int main(int argc, char **argv)
{
	if (argc < 3)
		die("usage: probe MP4-FILE DECODER...", 0);
	av_log_set_level(AV_LOG_ERROR);
	remux(argv[1]);
	for (int i = 2; i < argc; i++)
		decode(argv[i]);
	return 0;
}
