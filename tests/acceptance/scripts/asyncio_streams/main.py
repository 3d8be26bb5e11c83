import asyncio


async def main():
    async def step(n):
        await asyncio.sleep(0.001 * n)
        return n

    print(await asyncio.gather(*(step(n) for n in range(5))))
    process = await asyncio.create_subprocess_exec("echo", "from echo", stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    print(out.decode().strip())


asyncio.run(main())
