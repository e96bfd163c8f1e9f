# escape=`
FROM mcr.microsoft.com/windows/nanoserver:ltsc2022
SHELL ["powershell", "-Command", "$ErrorActionPreference = 'Stop';"]
COPY testfile.txt c:\
RUN dir c:\ ; `
    Write-Host 'done'
WORKDIR c:\windows
ENV A=b` c D="e` f"
CMD ["cmd", "/c", "type c:\\testfile.txt"]
